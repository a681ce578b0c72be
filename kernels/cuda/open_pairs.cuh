#pragma once

#include "kernels.h"

namespace entroselect::cuda {

// Whether the certified lower bound of a pair that the filter left open is beyond its row's reach.
// The mirror of the filter's test in kernels/triton/filter.py, in float64; `slack` covers the
// roundings of its inputs to float32.
ENTROSELECT_ANY inline bool too_far(const Pairs& pairs, const Sides& sides, int64_t place) {
  constexpr double kSlack = 0x1p-20;
  const int64_t slot = pairs.slot[place], column = pairs.column[place];
  const int64_t x = sides.index ? sides.index[slot] : slot;
  const double score = double(pairs.score[place]), norm2 = double(sides.rows.norm2[x]);
  const double y_norm = double(sides.columns.norm[column]);
  const double error = sides.gamma * (double(sides.rows.norm[x]) * y_norm + 0.5 * y_norm * y_norm);
  const double low = norm2 - 2 * score - 2 * error - kSlack * (norm2 + 2 * fabs(score));
  const double slack = double(sides.rows.residual[x]) + double(sides.columns.residual[column]);
  const double distance = (low <= 0 ? 0.0 : sqrt(low)) * (1 - kSlack) - slack * (1 + kSlack);
  return distance > double(sides.reach[slot]);  // false for NaN
}

}  // namespace entroselect::cuda
