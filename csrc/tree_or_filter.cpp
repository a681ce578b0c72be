#include "tree_or_filter.h"

#include <algorithm>
#include <stdexcept>

#include "bits/bit_pool.h"
#include "bits/bit_search.h"
#include "filter/panels.h"
#include "isa/lengths.h"
#include "nearest/nearest.h"
#include "select/filter_pool.h"
#include "tree/tree.h"
#include "tree/tree_nearest.h"
#include "tree/tree_pool.h"
#include "tree/tree_within.h"

namespace entroselect {

namespace {

// The widest rows for which "auto" is a tree (docs/decisions.md has the measurement).
constexpr int64_t kTreeSelects = 4, kTreeSearches = 5;

bool takes_tree(const std::string& filter, int64_t d, int64_t widest) {
  if (filter == "tree" && d > kTreeWidth)
    throw std::invalid_argument("a tree takes rows of at most " + std::to_string(kTreeWidth) +
                                " columns, these have " + std::to_string(d));
  return filter == "tree" || (filter == "auto" && d <= widest);
}

bool takes_bits(const std::string& filter) { return filter == "tanimoto" || filter == "hamming"; }

BitMetric bit_metric(const std::string& filter, const Rows& rows) {
  if (rows.dtype != Dtype::u8) throw std::invalid_argument("bits must be uint8");
  return filter == "tanimoto" ? BitMetric::tanimoto : BitMetric::hamming;
}

}  // namespace

Form form_named(const std::string& filter, const Kernels& kernels, int64_t d) {
  return filter == "bf16" ? Form::halves : best_form(kernels, d);
}

std::unique_ptr<Pool> build_pool(const Rows& rows, const Kernels& kernels,
                                 const std::string& filter, Grouping grouping, int threads,
                                 std::function<void()> poll) {
  if (takes_bits(filter))
    return std::make_unique<BitPool>(rows, bit_metric(filter, rows), kernels, threads,
                                     std::move(poll));
  if (takes_tree(filter, rows.d, kTreeSelects))
    return std::make_unique<TreePool>(rows, kernels, threads, std::move(poll));
  return std::make_unique<FilterPool>(rows, kernels, form_named(filter, kernels, rows.d), grouping,
                                      threads, std::move(poll));
}

void find_nearest(const Rows& queries, const Rows& points, bool same, int64_t k,
                  const Kernels& kernels, const std::string& filter, int threads,
                  const std::function<void(int64_t)>& poll, double* squared, int64_t* indices) {
  if (takes_bits(filter))
    bit_nearest(queries, points, same, k, bit_metric(filter, queries), kernels, threads, poll,
                squared, indices);
  else if (takes_tree(filter, queries.d, kTreeSearches))
    tree_nearest(queries, points, same, k, kernels, threads, poll, squared, indices);
  else
    nearest(queries, points, same, k, kernels, form_named(filter, kernels, queries.d), threads,
            poll, squared, indices);
}

void find_within(const Rows& queries, const Rows& points, double limit, const Kernels& kernels,
                 const std::string& filter, int threads, const std::function<void(int64_t)>& poll,
                 Lists& lists) {
  if (takes_bits(filter))
    bit_within(queries, points, limit, bit_metric(filter, queries), kernels, threads, poll, lists);
  else if (takes_tree(filter, queries.d, kTreeSearches))
    tree_within(queries, points, limit, kernels, threads, poll, lists);
  else
    within(queries, points, limit, kernels, form_named(filter, kernels, queries.d), threads, poll,
           lists);
}

int64_t whole_pool_bytes_per_row(int64_t d) {
  const int64_t twice = 2 * (d * sizeof(double) + sizeof(int64_t));
  const int64_t nodes = 2 * (2 * d * sizeof(double) + sizeof(Tree::Node)) / kLeaf;  // two per leaf
  const int64_t tree = twice + nodes + kLengthBytes;
  return std::max(FilterPool::bytes_per_row(d), d <= kTreeWidth ? tree : 0);
}

int64_t point_bytes_per_row(int64_t d, bool cosine) {
  const int64_t tree = d <= kTreeWidth ? Tree::bytes_per_row(d) : 0;
  return std::max(Panels::bytes_per_row(d), tree) + (cosine ? kLengthBytes : 0);
}

}  // namespace entroselect
