// What is certain of a pair that the filter left open (docs/exactness.md, "On a GPU").
#pragma once

#include "kernels.h"

namespace entroselect::cuda {

// Whether a pair's certified lower bound is beyond its row's reach; `score` may be larger than the
// pair's own. The mirror of the filter's test in kernels/triton/filter.py, in float64; `slack`
// covers the roundings of its inputs to float32.
ENTROSELECT_ANY inline bool too_far(const Sides& sides, int64_t slot, int64_t column,
                                    double score) {
  constexpr double kSlack = 0x1p-20;
  const int64_t x = sides.index ? sides.index[slot] : slot;
  const double norm2 = double(sides.rows.norm2[x]), y_norm = double(sides.columns.norm[column]);
  const double error = sides.gamma * (double(sides.rows.norm[x]) * y_norm + 0.5 * y_norm * y_norm);
  const double low = norm2 - 2 * score - 2 * error - kSlack * (norm2 + 2 * fabs(score));
  const double slack = double(sides.rows.residual[x]) + double(sides.columns.residual[column]);
  const double distance = (low <= 0 ? 0.0 : sqrt(low)) * (1 - kSlack) - slack * (1 + kSlack);
  return distance > double(sides.reach[slot]);  // false for NaN
}

}  // namespace entroselect::cuda
