// The primitives over rows of bits: every distance is exact, so no pair is looked at twice.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "base/pool.h"
#include "bits/bit_panels.h"

namespace entroselect {

class BitPool final : public SubPool {
 public:
  BitPool(const Rows& rows, BitMetric metric, const Kernels& kernels, int threads,
          std::function<void()> poll);

  int64_t n() const override { return rows_.n; }
  int64_t d() const override { return rows_.d; }
  int64_t count() const override { return picks_.rows(); }
  int64_t available() const override { return available_; }

  void add_picks(const int64_t* rows, int64_t size) override;
  void add_vectors(const Rows& vectors) override;
  void refresh(std::vector<int64_t> rows, double enough) override;
  void refresh_all(double enough) override;
  double widest() const override;

  double bound(int64_t row) const override { return bounds_[row]; }
  void exclude(const int64_t* rows, int64_t size) override;
  void put_back(const int64_t* rows, const double* bounds, int64_t size) override;
  int64_t met(int64_t row) const override;
  void restart(const double* bounds, const int64_t* met) override;

  std::pair<std::vector<int64_t>, Key> frontier(int64_t size) const override;
  std::pair<Picks, double> settle(const std::vector<int64_t>& rows, Key rival, int64_t limit,
                                  double floor) override;
  std::pair<std::vector<int64_t>, int64_t> next_in_order(const int64_t* order, int64_t length,
                                                         int64_t start, int64_t size,
                                                         double floor) const override;
  Picks settle_in_order(const std::vector<int64_t>& rows, int64_t limit, double floor) override;

  Profile profile() const override;

 private:
  // A thread's rows in words, and what it has counted.
  struct Worker {
    Buffer<BitWord> words;
    int64_t pairs = 0, refreshed = 0;
  };

  void add(const Rows& rows, int64_t i, int64_t bits);
  // Whether the row has unmet picks that may lower its bound, which is not below `enough`.
  bool stale(int64_t row, double enough) const {
    return met_[row] < count() && bounds_[row] > 0 && bounds_[row] >= enough;
  }
  void compare(const int64_t* rows, int64_t size, double enough, Worker& worker);

  const Rows rows_;
  const Kernels& kernels_;
  const int threads_;
  const std::function<void()> poll_;
  const int64_t words_;

  Buffer<int32_t> bits_;  // that are set, of every row
  // At least the squared distance to the nearest pick, equal to it where all picks are met;
  // kPicked once picked.
  Buffer<double> bounds_;
  Buffer<int32_t> met_;  // the row has met picks 0 to met - 1
  int64_t available_;

  BitPanels picks_;  // in order
  std::vector<Worker> workers_;
  mutable Profile profile_;
};

}  // namespace entroselect
