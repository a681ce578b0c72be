// What anchored selection minimises, in whole numbers, so that sums have no rounding: any order of
// additions and any update gives the same value (docs/exactness.md).
//
//   J(S) = 2 k sum A(x) - sum D(x, y) - k sum L(nearest distance of x within S)
//
// over x and y in S, k = |S|. A(x): mean distance of x to the reference; D: distance; both in units
// of 1 / per. L: weighted logarithm, in the same units.
#pragma once

#include <cmath>
#include <cstdint>

namespace entroselect {

// Natural logarithm of a positive, normal number, within 2 ulp: the same bits everywhere, because
// every operation is rounded by itself. entroselect.reference has the same in NumPy.
inline double canonical_log(double x) {
  int exponent;
  double m = std::frexp(x, &exponent);
  if (m < 0.7071067811865476) {
    m *= 2;
    exponent -= 1;
  }
  const double s = (m - 1) / (m + 1), z = s * s;
  double series = 0;  // atanh(s) / s - 1
  for (int i = 10; i >= 1; --i) series = z * (1.0 / (2 * i + 1) + series);
  return exponent * 0.6931471805599453 + 2 * (s + s * series);
}

struct Objective {
  int64_t k;
  double per;            // units of one distance
  double weight;         // units of L for a factor of e in a squared distance; 0: no such term
  double scale_squared;  // of the mean distance to the reference
  double floor;          // smallest squared distance that counts, over scale_squared

  int64_t distance(double squared) const { return std::llrint(std::sqrt(squared) * per); }

  // Not below any L: no distance is e^32 times the mean one, see _Anchor.objective.
  int64_t most_log() const { return std::llrint(64 * weight); }

  int64_t log_distance(double squared) const {
    if (weight == 0) return 0;
    const double ratio = squared / scale_squared;
    return std::llrint(weight * canonical_log(ratio > floor ? ratio : floor));
  }
};

}  // namespace entroselect
