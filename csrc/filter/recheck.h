// Pairs that a score leaves open, and what decides them.
#pragma once

#include <cstdint>
#include <functional>

namespace entroselect {

// A pair in question, of a row at hand and another one: a lower bound of its scaled distance, and
// the other's number, among the picks or among the points.
struct Suspect {
  double lower;
  int64_t other;
};

// Canonical squared distance of x (float64, padded) to the row of that number.
using ExactDistance = std::function<double(const double* x, int64_t other)>;

}  // namespace entroselect
