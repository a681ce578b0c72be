// A pool of rows, its picks, and how far every row is from them: the primitives of
// entroselect/engine.py, whose docstrings say what each of them does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/rows.h"

namespace entroselect {

// A row by its bound. The one that comes first is the next pick: larger bound, then lower index.
struct Key {
  double bound;
  int64_t row;

  bool beats(const Key& other) const {
    return bound > other.bound || (bound == other.bound && row < other.row);
  }
};

struct Picks {
  std::vector<int64_t> rows;
  std::vector<double> squared;
};

// The bound of a picked row. Below every distance, duplicates of picked rows included.
constexpr double kPicked = -1;

// How many rows of each group may still be picked; without groups, any number.
class Quotas {
 public:
  Quotas() = default;
  // `groups`: the group of every row, an array of the caller's.
  Quotas(const int32_t* groups, std::vector<int64_t> left)
      : groups_(groups), left_(std::move(left)) {}

  bool open(int64_t row) const {
    return !groups_ || left_[static_cast<std::size_t>(groups_[row])] > 0;
  }
  void take(int64_t row) {
    if (groups_) --left_[static_cast<std::size_t>(groups_[row])];
  }

 private:
  const int32_t* groups_ = nullptr;
  std::vector<int64_t> left_;
};

struct Profile {
  int64_t pairs = 0;      // pairs scored by the filter
  int64_t rechecks = 0;   // pairs that the filter left open: their canonical distance was computed
  int64_t settled = 0;    // canonical distances between rows of a micro-block
  int64_t refreshed = 0;  // rows brought up to date, or below what was enough
  int64_t cells = 0;      // number of cells of picks; 0: picks are in one list
  double refresh_seconds = 0, settle_seconds = 0, frontier_seconds = 0;
};

// next_in_order() of a pool in which a row has the bound bound_of(row).
template <class BoundOf>
std::pair<std::vector<int64_t>, int64_t> rows_in_order(const int64_t* order, int64_t length,
                                                       int64_t start, int64_t size, double floor,
                                                       const BoundOf& bound_of) {
  std::vector<int64_t> rows;
  int64_t at = start;
  for (; at < length && int64_t(rows.size()) < size; ++at) {
    const double bound = bound_of(order[at]);
    if (bound >= floor && bound != kPicked) rows.push_back(order[at]);
  }
  return {rows, at};
}

class Pool {
 public:
  virtual ~Pool() = default;

  virtual int64_t n() const = 0;
  virtual int64_t d() const = 0;
  virtual int64_t count() const = 0;
  virtual int64_t available() const = 0;

  virtual void add_picks(const int64_t* rows, int64_t count) = 0;
  virtual void add_vectors(const Rows& vectors) = 0;
  virtual void refresh(std::vector<int64_t> rows, double enough) = 0;
  virtual void refresh_all(double enough) = 0;
  virtual double widest() const = 0;

  // Rows that are set aside (entroselect/constrained.py), and the groups that settle() and
  // settle_in_order() pick from.
  virtual double bound(int64_t row) const = 0;
  virtual void exclude(const int64_t* rows, int64_t count) = 0;
  virtual void put_back(const int64_t* rows, const double* bounds, int64_t count) = 0;
  void limit_groups(Quotas quotas) { quotas_ = std::move(quotas); }

  virtual std::pair<std::vector<int64_t>, Key> frontier(int64_t size) const = 0;
  virtual std::pair<Picks, double> settle(const std::vector<int64_t>& rows, Key rival,
                                          int64_t limit, double floor) = 0;

  virtual std::pair<std::vector<int64_t>, int64_t> next_in_order(const int64_t* order,
                                                                 int64_t length, int64_t start,
                                                                 int64_t size,
                                                                 double floor) const = 0;
  virtual Picks settle_in_order(const std::vector<int64_t>& rows, int64_t limit, double floor) = 0;

  virtual Profile profile() const = 0;

 protected:
  Quotas quotas_;
};

// engine.SubPool, for a part or a block of a larger pool.
class SubPool : public Pool {
 public:
  // How many of the first picks the row has met, at least.
  virtual int64_t met(int64_t row) const = 0;
  // Resets the pool to no picks. `bounds`: of each row, kPicked if it may not be picked. `met`: how
  // many of the picks that are added next each row has met already.
  virtual void restart(const double* bounds, const int64_t* met) = 0;
};

}  // namespace entroselect
