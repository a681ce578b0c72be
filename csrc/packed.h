// Rounded rows packed for the wide side of a score tile: panels of kPanel rows, column pairs
// interleaved, with what the certificate needs to know of each panel.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "buffer.h"
#include "certificate.h"
#include "kernels.h"

namespace entroselect {

class Packed {
 public:
  explicit Packed(int64_t pairs) : pairs_(pairs) {}

  // Makes room for `count` rows in all; to be called before put() of rows beyond size().
  void resize(int64_t count);
  int64_t size() const { return count_; }

  // Writes row `at`. Different panels may be written by different threads.
  void put(int64_t at, const uint16_t* rounded, double norm2, double residual);

  int64_t panels() const { return int64_t(panels_.size()); }
  const uint32_t* panel(int64_t p) const { return panels_[size_t(p)].words.get(); }
  const float* start(int64_t p) const { return panels_[size_t(p)].start; }
  const PanelBounds& bounds(int64_t p) const { return panels_[size_t(p)].bounds; }

 private:
  struct Panel {
    Buffer<uint32_t> words;
    float start[kPanel];  // -||y~||^2 / 2; -inf in places that hold no row
    PanelBounds bounds;
  };
  int64_t pairs_;
  int64_t count_ = 0;
  std::vector<Panel> panels_;
};

}  // namespace entroselect
