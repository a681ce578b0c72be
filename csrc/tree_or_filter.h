// The two methods, and which of them an operation takes: a k-d tree over narrow rows, or the
// filter. `filter` is "tree", "int8", "bf16" or "auto", which lets the width decide.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/pool.h"
#include "filter/frame.h"
#include "select/cells.h"

namespace entroselect {

std::unique_ptr<Pool> build_pool(const Rows& rows, const Kernels& kernels,
                                 const std::string& filter, Grouping grouping, int threads,
                                 std::function<void()> poll);

// As nearest() in nearest/nearest.h.
void find_nearest(const Rows& queries, const Rows& points, bool same, int64_t k,
                  const Kernels& kernels, const std::string& filter, int threads,
                  const std::function<void(int64_t)>& poll, double* squared, int64_t* indices);

// What a row takes at most beside its values in a pool that may be a tree. A tree has the row twice
// in float64 while it is built, each with its number, and for every leaf a box and a node.
int64_t whole_pool_bytes_per_row(int64_t d);

// What a row takes at most beside its values in a search of the nearest, as one of the points.
int64_t point_bytes_per_row(int64_t d, bool cosine);

// The codes that the filter of that name begins with.
Form form_named(const std::string& filter, const Kernels& kernels, int64_t d);

}  // namespace entroselect
