// A k-d tree over rows of at most kTreeWidth columns. Distances to its boxes are computed with the
// operations of the canonical distance, in the same order; rounding is monotone, so they are lower
// bounds of it without any margin (docs/exactness.md).
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/buffer.h"
#include "isa/kernels.h"
#include "isa/squares.h"

namespace entroselect {

class Tree {
 public:
  Tree(const Rows& rows, const Kernels& kernels, int threads, const std::function<void()>& poll);

  // A node's first child is the next node, `right` the other; 0 marks a leaf, whose number is
  // `first`. The rows below lie in leaves [first, last), `lowest` is the lowest of them.
  struct Node {
    int64_t right, first, last, lowest;
  };
  int64_t nodes() const { return int64_t(nodes_.size()); }
  const Node& node(int64_t at) const { return nodes_[size_t(at)]; }

  // Least and largest value of each column below a node: [2][d].
  const double* box(int64_t at) const { return &boxes_[at * 2 * d_]; }

  // The rows of a leaf in canonical float64, column by column, [d][kLeaf], in order of their
  // index; and those indices. Places that hold no row are at the end.
  int64_t leaves() const { return leaves_; }
  int count(int64_t leaf) const { return int(std::min<int64_t>(kLeaf, n_ - leaf * kLeaf)); }
  const double* columns(int64_t leaf) const { return &columns_[leaf * kLeaf * d_]; }
  const int64_t* rows(int64_t leaf) const { return &rows_[leaf * kLeaf]; }

  // The most bytes that a row takes: its values and its number twice while the tree is built, as a
  // point and in a leaf; and its part of two nodes and their boxes, for each leaf. The rest is for
  // a last leaf that is not full.
  static constexpr int64_t bytes_per_row(int64_t d) { return 18 * d + 64; }

 private:
  template <int D>
  struct Builder;

  int64_t n_, d_, leaves_;
  std::vector<Node> nodes_;
  Buffer<double> boxes_, columns_;
  Buffer<int64_t> rows_;
};

// Least canonical squared distance of a row within [low, high] to one within the box.
template <int D>
inline double box_distance(const double* low, const double* high, const double* box) {
  double q[D];
  for (int l = 0; l < D; ++l) {
    const double below = box[l] - high[l], above = low[l] - box[D + l];
    const double gap = std::max(std::max(below, above), 0.0);
    q[l] = gap * gap;
  }
  return add_squares<D>(q);
}

}  // namespace entroselect
