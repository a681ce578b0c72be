// A row's neighbour, and the order of neighbours.
#pragma once

#include <cstdint>

namespace entroselect {

// Equal distances are ordered by index.
struct Neighbour {
  double squared;
  int64_t index;

  bool operator<(const Neighbour& other) const {
    return squared < other.squared || (squared == other.squared && index < other.index);
  }
};

}  // namespace entroselect
