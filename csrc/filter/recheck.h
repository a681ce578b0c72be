// Pairs that a score leaves open, and the exact distance that decides them.
#pragma once

#include <cstdint>
#include <functional>

namespace entroselect {

// A pair that the certificate leaves open: a lower bound of its scaled distance, and the number of
// its pick or point.
struct Suspect {
  double lower;
  int64_t other;
};

// Canonical squared distance of x (float64, padded) to the row of that number.
using ExactDistance = std::function<double(const double* x, int64_t other)>;

}  // namespace entroselect
