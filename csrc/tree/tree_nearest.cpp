#include "tree/tree_nearest.h"

#include <atomic>

#include "base/neighbour.h"
#include "base/threads.h"
#include "tree/tree.h"

namespace entroselect {

namespace {

constexpr int64_t kLeavesAtOnce = 8;  // per item of work
constexpr int64_t kRowsAtOnce = 256;

// Up to kLeaf queries that descend the tree together.
template <int D>
class Search {
 public:
  Search(const Tree& tree, const Kernels& kernels, int64_t k)
      : tree_(tree), kernels_(kernels), k_(k), best_(size_t(kLeaf * k)) {}

  // The nearest points of query q so far, sorted: read from the far end, that is a heap.
  void start(int q, const double* squared, const int64_t* indices) {
    for (int64_t m = 0; m < k_; ++m) heap(q)[k_ - 1 - m] = {squared[m], indices[m]};
  }

  // Queries x of the rows `self` (-1: none of the points), which are the rows of leaf `own`.
  void run(const double (*x)[D], const int64_t* self, int count, int64_t own) {
    x_ = x;
    self_ = self;
    count_ = count;
    double low[D], high[D];
    for (int l = 0; l < D; ++l) {
      low[l] = high[l] = x[0][l];
      for (int q = 1; q < count; ++q) {
        low[l] = std::min(low[l], x[q][l]);
        high[l] = std::max(high[l], x[q][l]);
      }
    }
    if (own >= 0)
      for (int q = 0; q < count; ++q) scan(q, own);
    find_worst();
    visits_.assign(1, {{0, tree_.node(0).lowest}, 0});
    while (!visits_.empty()) {
      const Visit visit = visits_.back();
      visits_.pop_back();
      if (!(visit.nearest < worst_)) continue;
      const Tree::Node& node = tree_.node(visit.node);
      if (node.right != 0) {
        Visit near = at(visit.node + 1, low, high), far = at(node.right, low, high);
        if (far.nearest < near.nearest) std::swap(near, far);
        if (far.nearest < worst_) visits_.push_back(far);
        if (near.nearest < worst_) visits_.push_back(near);
      } else if (node.first != own) {
        bool changed = false;
        for (int q = 0; q < count; ++q)
          if (at(visit.node, x[q], x[q]).nearest < kth(q)) changed |= scan(q, node.first);
        if (changed) find_worst();
      }
    }
    for (int q = 0; q < count; ++q) std::sort_heap(heap(q), heap(q) + k_);
  }

  const Neighbour* best(int q) const { return &best_[size_t(q * k_)]; }

 private:
  struct Visit {
    Neighbour nearest;  // a lower bound of the rows below
    int64_t node;
  };

  Neighbour* heap(int q) { return &best_[size_t(q * k_)]; }  // the worst is at the front
  const Neighbour& kth(int q) const { return best_[size_t(q * k_)]; }

  Visit at(int64_t node, const double* low, const double* high) const {
    return {{box_distance<D>(low, high, tree_.box(node)), tree_.node(node).lowest}, node};
  }

  bool scan(int q, int64_t leaf) {
    double squared[kLeaf];
    uint32_t mask = kernels_.leaf_distances(x_[q], tree_.columns(leaf), D, kth(q).squared, squared);
    const int count = tree_.count(leaf);
    if (count < kLeaf) mask &= (uint32_t(1) << count) - 1;
    bool changed = false;
    for (; mask; mask &= mask - 1) {
      const int j = __builtin_ctz(mask);
      const Neighbour found = {squared[j], tree_.rows(leaf)[j]};
      if (found.index == self_[q] || !(found < kth(q))) continue;
      std::pop_heap(heap(q), heap(q) + k_);
      heap(q)[k_ - 1] = found;
      std::push_heap(heap(q), heap(q) + k_);
      changed = true;
    }
    return changed;
  }

  void find_worst() {
    worst_ = kth(0);
    for (int q = 1; q < count_; ++q) worst_ = std::max(worst_, kth(q));
  }

  const Tree& tree_;
  const Kernels& kernels_;
  const int64_t k_;
  const double (*x_)[D];
  const int64_t* self_;
  int count_;
  Neighbour worst_;
  std::vector<Neighbour> best_;
  std::vector<Visit> visits_;
};

template <int D>
void search_all(const Rows& queries, const Tree& tree, bool same, int64_t k, const Kernels& kernels,
                int threads, const std::function<void(int64_t)>& poll, double* squared,
                int64_t* indices) {
  std::atomic<int64_t> done{0};
  std::vector<Search<D>> searches(size_t(threads), Search<D>(tree, kernels, k));
  const auto start = [&](int q, int64_t i, Search<D>& search) {
    search.start(q, squared + i * k, indices + i * k);
  };
  const auto store = [&](int64_t i, const Neighbour* best) {
    for (int64_t m = 0; m < k; ++m) {
      squared[i * k + m] = best[m].squared;
      indices[i * k + m] = best[m].index;
    }
  };
  const auto of_leaf = [&](int64_t leaf, Search<D>& search) {
    double x[kLeaf][D] = {};
    const int count = tree.count(leaf);
    for (int q = 0; q < count; ++q)
      for (int l = 0; l < D; ++l) x[q][l] = tree.columns(leaf)[l * kLeaf + q];
    for (int q = 0; q < count; ++q) start(q, tree.rows(leaf)[q], search);
    search.run(x, tree.rows(leaf), count, leaf);
    for (int q = 0; q < count; ++q) store(tree.rows(leaf)[q], search.best(q));
    done.fetch_add(count);
  };
  const auto of_row = [&](int64_t i, Search<D>& search) {
    double padded_x[kTreeWidth], x[1][D];
    kernels.load_row(queries, i, padded_x);
    std::copy(padded_x, padded_x + D, x[0]);
    const int64_t none = -1;
    start(0, i, search);
    search.run(x, &none, 1, -1);
    store(i, search.best(0));
    done.fetch_add(1);
  };
  const int64_t total = same ? tree.leaves() : queries.n;
  const int64_t size = same ? kLeavesAtOnce : kRowsAtOnce;
  parallel_for(
      threads, (total + size - 1) / size,
      [&](int64_t item, int worker) {
        Search<D>& search = searches[size_t(worker)];
        for (int64_t i = item * size; i < std::min(total, (item + 1) * size); ++i)
          same ? of_leaf(i, search) : of_row(i, search);
      },
      [&] { poll(done.load()); });
}

}  // namespace

void tree_nearest(const Rows& queries, const Rows& points, bool same, int64_t k,
                  const Kernels& kernels, int threads, const std::function<void(int64_t)>& poll,
                  double* squared, int64_t* indices) {
  const Tree tree(points, kernels, threads, [&] { poll(0); });
  with_width(points.d, [&](auto width) {
    search_all<decltype(width)::value>(queries, tree, same, k, kernels, threads, poll, squared,
                                       indices);
  });
}

}  // namespace entroselect
