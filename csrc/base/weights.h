// Weighted farthest-first: a weight per row, and what rows are compared by.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace entroselect {

class Weights {
 public:
  Weights() = default;
  // One per row, an array of the caller's; from 1e-150 to 1e150.
  explicit Weights(const double* weights) : weights_(weights) {}

  explicit operator bool() const { return weights_ != nullptr; }

  // What a row with this bound is compared by: its weighted distance, weight x root of the bound,
  // each operation rounded; without weights the bound. A picked row's stays below 0.
  double key(int64_t row, double bound) const {
    return weights_ && bound >= 0 ? weights_[row] * std::sqrt(bound) : bound;
  }

  // A bound below which the row's key is below this one. docs/exactness.md ("Weights") has the
  // proof, which needs numbers in the normal range; otherwise it is 0, which is always right.
  double enough(int64_t row, double key) const {
    if (!weights_) return key;
    const double root = std::min(key / weights_[row], 1e154);  // its square is finite
    return key > 1e-290 && root > 1e-150 ? root * root * (1 - 0x1p-48) : 0;
  }

 private:
  const double* weights_ = nullptr;
};

}  // namespace entroselect
