// Nearest neighbours, and all points within a distance, among rows of bits: every query is compared
// with every point, exactly.
#pragma once

#include <cstdint>
#include <functional>

#include "bits/bit_panels.h"
#include "nearest/within.h"

namespace entroselect {

// As nearest() in nearest/nearest.h.
void bit_nearest(const Rows& queries, const Rows& points, bool same, int64_t k, BitMetric metric,
                 const Kernels& kernels, int threads, const std::function<void(int64_t)>& poll,
                 double* squared, int64_t* indices);

// As within() in nearest/within.h.
void bit_within(const Rows& queries, const Rows& points, double limit, BitMetric metric,
                const Kernels& kernels, int threads, const std::function<void(int64_t)>& poll,
                Lists& lists);

}  // namespace entroselect
