// The primitives over filtered products: a round brings only the rows of its frontier up to date.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/buffer.h"
#include "base/pool.h"
#include "base/weights.h"
#include "filter/frame.h"
#include "filter/panels.h"
#include "select/cells.h"
#include "select/conflicts.h"
#include "select/sweep.h"

namespace entroselect {

class FilterPool final : public SubPool {
 public:
  FilterPool(const Rows& rows, const Kernels& kernels, Form form, Grouping grouping, int threads,
             std::function<void()> poll);

  int64_t n() const override { return rows_.n; }
  int64_t d() const override { return rows_.d; }
  int64_t count() const override { return int64_t(picked_.picks.size()); }
  int64_t available() const override { return available_; }

  void add_picks(const int64_t* rows, int64_t size) override;
  void add_vectors(const Rows& vectors) override;
  void refresh(std::vector<int64_t> rows, double enough) override;
  void refresh_all(double enough) override;
  double widest() const override;

  double bound(int64_t row) const override { return bounds_[row]; }
  void exclude(const int64_t* rows, int64_t size) override;
  // The picks that these rows had met are known still.
  void put_back(const int64_t* rows, const double* bounds, int64_t size) override;

  int64_t met(int64_t row) const override { return std::min(unmet_[row].oldest(), count()); }
  void restart(const double* bounds, const int64_t* met) override;

  // From now on frontier() and settle() compare rows by their weighted distances. So a Key holds
  // that in place of the bound, and so do `enough`, `floor` and the next pick's value that settle()
  // returns; bounds and the picks' own distances stay squared.
  void weigh(Weights weights) { weights_ = weights; }

  // greedy.cpp
  std::pair<std::vector<int64_t>, Key> frontier(int64_t size) const override;
  std::pair<Picks, double> settle(const std::vector<int64_t>& rows, Key rival, int64_t limit,
                                  double floor) override;

  // threshold.cpp
  std::pair<std::vector<int64_t>, int64_t> next_in_order(const int64_t* order, int64_t length,
                                                         int64_t start, int64_t size,
                                                         double floor) const override;
  Picks settle_in_order(const std::vector<int64_t>& rows, int64_t limit, double floor) override;

  Profile profile() const override;

  // The most bytes that a row takes besides its values: its code and the members below, 54 bytes;
  // while rows are refreshed, its number in the given order and in that of the groups, and where
  // its group begins.
  static constexpr int64_t bytes_per_row(int64_t d) { return 2 * d + 80; }

 private:
  // A few rows in canonical float64, among which picks are settled by exact distances.
  struct MicroBlock {
    std::vector<int64_t> rows;
    std::vector<bool> active;  // may be picked in this step; other rows keep a stale bound
    Buffer<double> values;
  };

  void load(MicroBlock& block);
  void pick_in(MicroBlock& block, size_t place);
  void keep_current(const MicroBlock& block);
  void code_rows();
  void clear_picks();
  void pack(int64_t number);
  void consider_form();
  void consider_cells();
  bool cells_pay(const Cells& cells) const;
  int32_t home(int64_t row) const { return cells_ ? places_[row].cell : 0; }
  Key key(int64_t row) const { return {weights_.key(row, bounds_[row]), row}; }
  // Whether refresh() may have to lower the row's bound.
  bool stale(int64_t row, double enough) const {
    return unmet_[row].count(count()) > 0 && bounds_[row] > 0 &&
           bounds_[row] >= weights_.enough(row, enough);
  }
  void compare_with_first(double enough);
  void refresh_groups(const std::vector<int64_t>& rows, int threads, double enough);

  // conflicts.cpp
  //
  // Settles picks among the heap's best rows from a list of the pairs that conflict; sets `next` as
  // settle() returns it, and leaves in the heap, in no order, what may still be picked. False, and
  // no pick, if too many pairs conflict.
  bool settle_by_conflicts(std::vector<Key>& heap, Key rival, int64_t limit, double floor,
                           Picks& picks, double& next);
  std::optional<std::vector<Conflict>> conflicts_of(const std::vector<Key>& keys);

  const Rows rows_;
  PickedRows picked_;
  const Kernels& kernels_;
  const Grouping grouping_;
  const int threads_;
  const std::function<void()> poll_;

  std::unique_ptr<Frame> frame_;
  Buffer<uint32_t> codes_;  // of every row
  Buffer<Coded> coded_;
  // At least the squared distance to the nearest pick, equal to it where no pick is unmet;
  // kPicked once picked.
  Buffer<double> bounds_;
  Buffer<Unmet> unmet_;
  Weights weights_;
  int64_t available_;

  std::unique_ptr<Coder> coder_;
  std::unique_ptr<Panels> panels_;  // the picks, in order; null with cells
  std::unique_ptr<Cells> cells_;    // the picks by cell; null without cells
  Buffer<Place> places_;            // with cells: the place of every row
  int64_t next_look_;               // number of picks at which cells are considered again

  std::vector<std::unique_ptr<Sweep>> sweeps_;  // one per worker
  MicroBlock micro_;
  mutable Profile profile_;
};

// About `size` rows with the largest bounds, at most twice as many, in ascending order, and the
// best row left out. Takes two bytes per row at most, and 64 per row wanted.
std::pair<std::vector<int64_t>, Key> frontier_of(const double* bounds, int64_t n, int64_t size,
                                                 int threads, const std::function<void()>& poll);

// Rows of a micro-block, among which picks are settled by exact distances.
constexpr size_t kMicro = 64;

}  // namespace entroselect
