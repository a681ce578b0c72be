// All points within a distance of every query, for narrow rows.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/neighbour.h"
#include "isa/kernels.h"

namespace entroselect {

// As within() in nearest/within.h, by a tree over the points.
void tree_within(const Rows& queries, const Rows& points, double limit, const Kernels& kernels,
                 int threads, const std::function<void(int64_t)>& poll,
                 std::vector<std::vector<Neighbour>>& lists);

}  // namespace entroselect
