// The rows that have been picked, in order: rows of the pool, or vectors that were given.
#pragma once

#include <cstdint>
#include <vector>

#include "isa/kernels.h"

namespace entroselect {

struct PickedRows {
  struct Pick {
    int32_t source;  // -1: a row of the pool, otherwise of given[source]
    int64_t row;
  };

  const Rows& rows(const Pick& pick) const {
    return pick.source < 0 ? pool : given[size_t(pick.source)];
  }

  // Canonical squared distance of x (float64, padded) to the pick of that number.
  double distance(const Kernels& kernels, const double* x, int64_t number) const {
    const Pick& pick = picks[size_t(number)];
    return kernels.distance_to_row(x, rows(pick), pick.row);
  }

  const Rows& pool;
  std::vector<Pick> picks;
  std::vector<Rows> given;
};

}  // namespace entroselect
