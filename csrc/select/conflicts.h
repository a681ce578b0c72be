// Farthest-first among rows that are all up to date, from the few pairs of them that matter: for a
// block of a larger pool.
// docs/exactness.md ("Conflicts") says why.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/pool.h"

namespace entroselect {

// Two rows, by their places in a list that has the best first, and their canonical squared
// distance, which is below the bounds of both.
struct Conflict {
  int32_t first, second;
  double squared;
};

// Picks rows, the farthest first, while they beat the rival, are at `floor` and within the limit;
// also returns the squared distance of the next pick, -1 where undecided. `keys`: all rows that
// beat the rival, the best first, with their bounds, which become their distances to all picks,
// kPicked where picked. `conflicts`: all pairs of them that conflict, in any order. A row whose
// group has become full is passed over.
std::pair<Picks, double> pick_by_conflicts(std::vector<Key>& keys,
                                           const std::vector<Conflict>& conflicts, Key rival,
                                           int64_t limit, double floor, Quotas& quotas);

}  // namespace entroselect
