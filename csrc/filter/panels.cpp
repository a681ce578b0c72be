#include "filter/panels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "filter/frame.h"

namespace entroselect {

static_assert(code_bytes(0) + 3 * int64_t(sizeof(Panels::Panel)) / kPanel <
                  Panels::bytes_per_row(0),
              "a row takes more");

namespace {
void widen(ColumnBounds& most, const ColumnBounds& with) {
  most.norm = std::max(most.norm, with.norm);
  most.residual = std::max(most.residual, with.residual);
}
}  // namespace

void Panels::resize(int64_t count) {
  rows_ = count;
  while (size() * kPanel < count) {
    Panel panel;
    panel.words = Buffer<uint32_t>(words_ * kPanel);
    std::memset(panel.words.get(), 0, size_t(words_ * kPanel) * sizeof(uint32_t));
    std::fill(panel.step, panel.step + kPanel, 0.0f);
    std::fill(panel.start, panel.start + kPanel, -std::numeric_limits<float>::infinity());
    panels_.push_back(std::move(panel));
  }
}

void Panels::put(int64_t at, const uint32_t* code, const Coded& coded) {
  Panel& panel = panels_[size_t(at / kPanel)];
  const int64_t column = at % kPanel;
  uint32_t* words = panel.words.get() + column;
  // Flipping the top bit of a signed byte adds 128.
  for (int64_t w = 0; w < words_; ++w) words[w * kPanel] = code[w] ^ flip_;
  panel.step[column] = coded.step;
  panel.start[column] = float(-0.5 * coded.norm2);
  panel.bounds[column] = {std::sqrt(coded.norm2), coded.residual};
  widen(panel.most, panel.bounds[column]);
}

ColumnBounds Panels::most(int64_t first, int64_t last) const {
  ColumnBounds result;
  for (int64_t p = first; p < last; ++p) widen(result, panel(p).most);
  return result;
}

}  // namespace entroselect
