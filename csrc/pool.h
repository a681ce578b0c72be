// A pool of rows, what has been chosen from it, and how far every row is from that: the primitives
// of entroselect/engine.py.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "buffer.h"
#include "filter.h"
#include "packed.h"
#include "scan.h"

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

class Pool {
 public:
  Pool(const Rows& rows, const Kernels& kernels, Form form, int threads,
       std::function<void()> poll);

  int64_t n() const { return rows_.n; }
  int64_t d() const { return rows_.d; }
  int64_t count() const { return int64_t(chosen_.size()); }
  int64_t available() const { return available_; }

  void pick(const int64_t* rows, int64_t count);
  void extend(const Rows& vectors);
  void refresh(std::vector<int64_t> rows);
  void refresh_all();
  double widest() const;

  // greedy.cpp
  std::pair<std::vector<int64_t>, Key> frontier(int64_t size) const;
  std::pair<Picks, double> resolve(const std::vector<int64_t>& rows, Key rival, int64_t limit,
                                   double floor);

  // threshold.cpp
  std::pair<std::vector<int64_t>, int64_t> ahead(const int64_t* order, int64_t length,
                                                 int64_t start, int64_t size, double floor) const;
  Picks resolve_in_order(const std::vector<int64_t>& rows, int64_t limit, double floor);

  struct Profile {
    int64_t pairs = 0;      // pairs scored by the filter
    int64_t rechecks = 0;   // pairs whose canonical distance the filter asked for
    int64_t settled = 0;    // canonical distances between rows of a micro-block
    int64_t refreshed = 0;  // rows brought up to date
    double refresh_seconds = 0, resolve_seconds = 0, frontier_seconds = 0;
  };
  Profile profile() const;

 private:
  struct Chosen {
    int32_t source;  // -1: this pool, otherwise which of extra_
    int64_t row;
  };

  // A few rows in canonical float64, among which picks are settled by exact distances.
  struct MicroBlock {
    std::vector<int64_t> rows;
    std::vector<bool> active;  // may be picked in this step; others keep their stale bound
    Buffer<double> values;
  };

  void load(MicroBlock& block);
  void choose_in(MicroBlock& block, size_t place);
  void keep_current(const MicroBlock& block);
  void code_rows();
  void pack(const Chosen& chosen);
  void consider_form();
  void refresh_groups(const std::vector<int64_t>& rows);
  double exact(const double* x, int64_t packed) const;

  const Rows rows_;
  const Kernels& kernels_;
  const int threads_;
  const std::function<void()> poll_;

  std::unique_ptr<Filter> filter_;
  Buffer<uint32_t> codes_;  // of every row
  Buffer<Coded> coded_;
  Buffer<double> bounds_;  // squared distance to the first seen_ choices; kChosen once chosen
  Buffer<int32_t> seen_;
  int64_t available_;

  std::unique_ptr<Coder> coder_;
  std::unique_ptr<Packed> packed_;  // what has been chosen, in order
  std::vector<Chosen> chosen_;
  std::vector<Rows> extra_;

  std::vector<std::unique_ptr<Scan>> scans_;  // one per worker
  MicroBlock micro_;
  mutable Profile profile_;
};

// The bound of a chosen row. Below every distance, duplicates of chosen rows included.
constexpr double kChosen = -1;

// Rows among which picks are settled at a time by exact distances.
constexpr size_t kMicro = 64;

}  // namespace entroselect
