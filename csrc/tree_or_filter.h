// Which method an operation uses: a k-d tree over narrow rows, the filter, or, where rows are bits,
// exact distances of them. `filter` is "tree", "int8", "bf16" or "auto", which lets the width
// decide; or the metric of bits, "tanimoto" or "hamming".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/pool.h"
#include "filter/frame.h"
#include "nearest/within.h"
#include "select/cells.h"

namespace entroselect {

std::unique_ptr<Pool> build_pool(const Rows& rows, const Kernels& kernels,
                                 const std::string& filter, Grouping grouping, int threads,
                                 std::function<void()> poll);

// As nearest() in nearest/nearest.h.
void find_nearest(const Rows& queries, const Rows& points, bool same, int64_t k,
                  const Kernels& kernels, const std::string& filter, int threads,
                  const std::function<void(int64_t)>& poll, double* squared, int64_t* indices);

// As within() in nearest/within.h.
void find_within(const Rows& queries, const Rows& points, double limit, const Kernels& kernels,
                 const std::string& filter, int threads, const std::function<void(int64_t)>& poll,
                 Lists& lists);

// The most bytes that a row takes besides its values in a pool that may be a tree. A tree has the
// row twice in float64 while it is built, each with its number, and for every leaf a box and a
// node.
int64_t whole_pool_bytes_per_row(int64_t d);

// The most bytes that a point takes besides its values in a search.
int64_t point_bytes_per_row(int64_t d, bool cosine);

// The form of codes with which the filter of that name begins.
Form form_named(const std::string& filter, const Kernels& kernels, int64_t d);

}  // namespace entroselect
