// A group of coded rows, scored against one panel after another.
#pragma once

#include "filter/frame.h"
#include "filter/panels.h"

namespace entroselect {

class Group {
 public:
  Group(const Frame& frame, const Kernels& kernels);

  // The caller keeps the code.
  void set_row(int g, const uint32_t* code, const Coded& coded);

  // Scores rows [0, count). Bit g of the result is set when mask[g] is not 0.
  uint64_t score(int count, const Panels::Panel& panel);

  // As score(), for pairs that may matter to either end: the scores that pass are also those with
  // s - half[g] >= limit[c].
  uint64_t score_both(int count, const Panels::Panel& panel, const float* limit);

  RowBounds bounds[kGroup];
  float threshold[kGroup];
  float half[kGroup];  // ||X~||^2 / 2
  uint32_t mask[kGroup];
  float scores[kGroup * kPanel];

 private:
  const Frame& frame_;
  const Kernels& kernels_;
  Tile tile_;
  const void* x_[kGroup];
  float row_step_[kGroup];
  int32_t row_sum_[kGroup];
  Buffer<float> wide_rows_, wide_panel_;
};

}  // namespace entroselect
