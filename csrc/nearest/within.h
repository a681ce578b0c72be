// All points within a distance of every query.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/neighbour.h"
#include "filter/frame.h"
#include "isa/kernels.h"

namespace entroselect {

// The points of every query, in ascending order of their index.
using Lists = std::vector<std::vector<Neighbour>>;

// Lists for every query the points whose canonical squared distance is at most `limit`.
// `poll(done)` is called now and then with the number of queries finished.
void within(const Rows& queries, const Rows& points, double limit, const Kernels& kernels,
            Form form, int threads, const std::function<void(int64_t)>& poll, Lists& lists);

}  // namespace entroselect
