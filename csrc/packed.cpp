#include "packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace entroselect {

void Packed::resize(int64_t count) {
  count_ = count;
  while (panels() * kPanel < count) {
    Panel panel;
    panel.words = Buffer<uint32_t>(pairs_ * kPanel);
    std::memset(panel.words.get(), 0, size_t(pairs_ * kPanel) * sizeof(uint32_t));
    std::fill(panel.start, panel.start + kPanel, -std::numeric_limits<float>::infinity());
    panels_.push_back(std::move(panel));
  }
}

void Packed::put(int64_t at, const uint16_t* rounded, double norm2, double residual) {
  Panel& panel = panels_[size_t(at / kPanel)];
  const int64_t column = at % kPanel;
  uint32_t* words = panel.words.get() + column;
  for (int64_t pair = 0; pair < pairs_; ++pair)
    std::memcpy(words + pair * kPanel, rounded + 2 * pair, sizeof(uint32_t));
  panel.start[column] = float(-0.5 * norm2);
  panel.bounds.norm = std::max(panel.bounds.norm, std::sqrt(norm2));
  panel.bounds.residual = std::max(panel.bounds.residual, residual);
}

}  // namespace entroselect
