// The primitives over a tree, for narrow rows: a pick lowers at once the bounds of all rows that it
// may be nearest to, those in boxes that the tree cannot rule out. Every node knows the largest
// bound below it, so the next pick is always at the root.
#pragma once

#include <array>
#include <functional>
#include <vector>

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

  double bound(int64_t row) const override { return bounds_[place_[row]]; }
  void exclude(const int64_t* rows, int64_t count) override;
  // Compares all rows again with the picks made since rows were first excluded.
  void put_back(const int64_t* rows, const double* bounds, int64_t count) override;

  // A tree needs no frontier: an empty block, and no rival.
  std::pair<std::vector<int64_t>, Key> frontier(int64_t size) const override;
  // Settles picks among all rows; the block is ignored. Ends, undecided, when the next row is of a
  // full group: the caller has to exclude that group.
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
  void lower_all(const double* x, int64_t leaf);
  // Finds the best rows again, after the bounds at these places, in ascending order, have changed.
  void renew(int64_t node, const int64_t* begin, const int64_t* end);
  void renew(const int64_t* rows, int64_t count);

  const Kernels& kernels_;
  const std::function<void()> poll_;
  int64_t n_, d_, count_ = 0, available_;
  Tree tree_;
  Buffer<int64_t> place_;  // of every row, in the order of the leaves
  Buffer<double> bounds_;  // squared distance to the nearest pick, by place; kPicked once picked
  std::vector<Key> best_;  // below every node
  bool aside_ = false;     // rows have been excluded
  std::vector<std::array<double, kTreeWidth>> since_;  // picks made since then
  Profile profile_;
};

}  // namespace entroselect
