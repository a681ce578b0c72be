// k nearest points of every query, for narrow rows.
#pragma once

#include <cstdint>
#include <functional>

#include "isa/kernels.h"

namespace entroselect {

// As nearest() in nearest/nearest.h, by a tree over the points.
void tree_nearest(const Rows& queries, const Rows& points, bool same, int64_t k,
                  const Kernels& kernels, int threads, const std::function<void(int64_t)>& poll,
                  double* squared, int64_t* indices);

}  // namespace entroselect
