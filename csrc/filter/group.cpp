#include "filter/group.h"

#include <cmath>

namespace entroselect {

Group::Group(const Frame& frame, const Kernels& kernels)
    : frame_(frame), kernels_(kernels), tile_() {
  tile_.x = x_;
  tile_.row_step = row_step_;
  tile_.row_sum = row_sum_;
  tile_.row_half = half;
  tile_.words = frame.words;
  tile_.threshold = threshold;
  tile_.mask = mask;
  tile_.scores = scores;
  if (frame.form == Form::halves && kernels.widens) {
    wide_rows_ = Buffer<float>(kGroup * 2 * frame.words);
    wide_panel_ = Buffer<float>(kPanel * 2 * frame.words);
  }
}

void Group::set_row(int g, const uint32_t* code, const Coded& coded) {
  bounds[g] = {coded.norm2, std::sqrt(coded.norm2), coded.residual};
  half[g] = float(0.5 * coded.norm2);
  x_[g] = code;
  row_step_[g] = coded.step;
  row_sum_[g] = coded.sum;
  if (wide_rows_.get()) {
    float* wide = wide_rows_.get() + g * 2 * frame_.words;
    kernels_.widen_row(code, frame_.words, wide);
    x_[g] = wide;
  }
}

uint64_t Group::score(int count, const Panels::Panel& panel) {
  return score_both(count, panel, nullptr);
}

uint64_t Group::score_both(int count, const Panels::Panel& panel, const float* limit) {
  tile_.rows = count;
  tile_.panel = panel.words.get();
  tile_.column_step = panel.step;
  tile_.start = panel.start;
  tile_.column_limit = limit;
  if (wide_panel_.get()) {
    kernels_.widen_panel(panel.words.get(), frame_.words, wide_panel_.get());
    tile_.panel = wide_panel_.get();
  }
  return (frame_.form == Form::bytes ? kernels_.score_bytes : kernels_.score_halves)(tile_);
}

}  // namespace entroselect
