// The primitives over a tree, for narrow rows: a pick lowers at once the bounds of all rows that it
// may be nearest to, those in boxes that the tree cannot rule out. Every node knows the largest
// bound below it, so the next pick is always at the root.
#pragma once

#include <functional>

#include "base/pool.h"
#include "tree/tree.h"

namespace entroselect {

class TreePool final : public Pool {
 public:
  TreePool(const Rows& rows, const Kernels& kernels, int threads, std::function<void()> poll);

  int64_t n() const override { return n_; }
  int64_t d() const override { return d_; }
  int64_t count() const override { return count_; }
  int64_t available() const override { return available_; }

  void add_picks(const int64_t* rows, int64_t count) override;
  void add_vectors(const Rows& vectors) override;
  void refresh(std::vector<int64_t>, double) override {}
  void refresh_all(double) override {}
  double widest() const override { return best_.empty() ? 0 : std::max(best_[0].bound, 0.0); }

  // A tree needs no frontier: an empty block, and no rival.
  std::pair<std::vector<int64_t>, Key> frontier(int64_t size) const override;
  // Settles picks among all rows; the block is ignored.
  std::pair<Picks, double> settle(const std::vector<int64_t>& rows, Key rival, int64_t limit,
                                  double floor) override;

  std::pair<std::vector<int64_t>, int64_t> next_in_order(const int64_t* order, int64_t length,
                                                         int64_t start, int64_t size,
                                                         double floor) const override;
  Picks settle_in_order(const std::vector<int64_t>& rows, int64_t limit, double floor) override;

  Profile profile() const override { return profile_; }

 private:
  // A picked vector; `leaf` is where it lies if it is a row of the pool, -1 if it is none.
  void add(const double* x, int64_t leaf);
  template <int D>
  void lower(int64_t node, const double* x, int64_t leaf);

  const Kernels& kernels_;
  const std::function<void()> poll_;
  int64_t n_, d_, count_ = 0, available_;
  Tree tree_;
  Buffer<int64_t> place_;  // of every row, in the order of the leaves
  Buffer<double> bounds_;  // squared distance to the nearest pick, by place; kPicked once picked
  std::vector<Key> best_;  // below every node
  Profile profile_;
};

}  // namespace entroselect
