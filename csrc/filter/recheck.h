// Pairs that a score leaves open, and what decides them.
#pragma once

#include <cstdint>
#include <functional>

namespace entroselect {

// A pair in question: the packed row and a lower bound of its scaled distance.
struct Suspect {
  double lower;
  int64_t packed;
};

// Canonical squared distance of x (float64, padded) to the row that was packed at that place.
using ExactDistance = std::function<double(const double* x, int64_t packed)>;

}  // namespace entroselect
