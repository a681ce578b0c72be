// Coded rows for the wide side of a score tile: panels of kPanel rows, with interleaved words and,
// per row, what the certificate needs.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/buffer.h"
#include "filter/certificate.h"
#include "isa/kernels.h"

namespace entroselect {

class Panels {
 public:
  // `offset` is added to every byte of the codes (Kernels::panel_offset; 0 for bfloat16).
  Panels(int64_t words, int offset) : words_(words), flip_(offset == 128 ? 0x80808080u : 0) {}

  // Makes room for `count` rows in all; to be called before put() of rows beyond rows().
  void resize(int64_t count);
  int64_t rows() const { return rows_; }

  // Writes row `at`. Different panels may be written by different threads.
  void put(int64_t at, const uint32_t* code, const Coded& coded);

  struct Panel {
    Buffer<uint32_t> words;
    float step[kPanel];
    float start[kPanel];  // -||Y~||^2 / 2; -inf in places that hold no row
    ColumnBounds bounds[kPanel];
    ColumnBounds most;
  };
  int64_t size() const { return int64_t(panels_.size()); }
  const Panel& panel(int64_t p) const { return panels_[size_t(p)]; }

  // Upper bounds over panels [first, last).
  ColumnBounds most(int64_t first, int64_t last) const;

  // The most bytes that a row takes: its code, and its part of a panel three times, since the list
  // of panels is copied to one twice as large when it grows. The rest is the allocator's.
  static constexpr int64_t bytes_per_row(int64_t d) { return 2 * d + 96; }

 private:
  int64_t words_;
  uint32_t flip_;
  int64_t rows_ = 0;
  std::vector<Panel> panels_;
};

}  // namespace entroselect
