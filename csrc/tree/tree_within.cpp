#include "tree/tree_within.h"

#include <algorithm>
#include <atomic>

#include "base/threads.h"
#include "tree/tree.h"

namespace entroselect {

namespace {

constexpr int64_t kRowsAtOnce = 256;  // per item of work

// Adds the rows of the tree within `limit` of x. A box that is farther away holds none: its
// distance is no larger than the canonical distance of any row in it.
template <int D>
void search(const Tree& tree, const Kernels& kernels, const double* x, double limit,
            std::vector<int64_t>& nodes, std::vector<Neighbour>& found) {
  nodes.assign(1, 0);
  while (!nodes.empty()) {
    const int64_t at = nodes.back();
    nodes.pop_back();
    if (box_distance<D>(x, x, tree.box(at)) > limit) continue;
    const Tree::Node& node = tree.node(at);
    if (node.right != 0) {
      nodes.push_back(node.right);
      nodes.push_back(at + 1);
      continue;
    }
    double squared[kLeaf];
    uint32_t mask = kernels.leaf_distances(x, tree.columns(node.first), D, limit, squared);
    const int count = tree.count(node.first);
    if (count < kLeaf) mask &= (uint32_t(1) << count) - 1;
    for (; mask; mask &= mask - 1) {
      const int j = __builtin_ctz(mask);
      found.push_back({squared[j], tree.rows(node.first)[j]});
    }
  }
  std::sort(found.begin(), found.end(),
            [](const Neighbour& a, const Neighbour& b) { return a.index < b.index; });
}

}  // namespace

void tree_within(const Rows& queries, const Rows& points, double limit, const Kernels& kernels,
                 int threads, const std::function<void(int64_t)>& poll,
                 std::vector<std::vector<Neighbour>>& lists) {
  const Tree tree(points, kernels, threads, [&] { poll(0); });
  lists.assign(size_t(queries.n), {});
  std::atomic<int64_t> done{0};
  with_width(points.d, [&](auto width) {
    parallel_for(
        threads, (queries.n + kRowsAtOnce - 1) / kRowsAtOnce,
        [&](int64_t item, int) {
          const int64_t end = std::min(queries.n, (item + 1) * kRowsAtOnce);
          std::vector<int64_t> nodes;
          for (int64_t i = item * kRowsAtOnce; i < end; ++i) {
            double x[kTreeWidth];
            kernels.load_row(queries, i, x);
            search<decltype(width)::value>(tree, kernels, x, limit, nodes, lists[size_t(i)]);
          }
          done.fetch_add(end - item * kRowsAtOnce);
        },
        [&] { poll(done.load()); });
  });
}

}  // namespace entroselect
