// Settling picks with the CUDA sources compiled for the host, compared with plain loops: on one
// thread under sanitizers (cuda_check.cpp), and with a thread for each of a block's
// (cuda_threads.cpp).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "cuda/kernels.h"

namespace cuda = entroselect::cuda;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

inline uint64_t random64() {  // splitmix64
  static uint64_t state = 1;
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

inline void require(bool holds, const char* what, int64_t a = 0, int64_t b = 0) {
  if (holds) return;
  std::printf("wrong: %s (%lld, %lld)\n", what, static_cast<long long>(a),
              static_cast<long long>(b));
  std::exit(1);
}

// As one team on the device computes it.
inline double distance(const cuda::Rows& a, int64_t i, const cuda::Rows& b, int64_t j) {
  return cuda::distance(cuda::Lanes{}, a, i, b, j);
}

// A pool of float32 rows with few distinct values, so that nearly everything ties.
struct Grid {
  Grid(int64_t n, int64_t d, int levels) : n(n), d(d), values(size_t(n * d)) {
    for (float& v : values) v = float(random64() % uint64_t(levels));
    bounds.assign(size_t(n), kInfinity);
    met.assign(size_t(n), 0);
    picks.assign(size_t(n), -9);
  }
  cuda::Rows rows() const {
    return {reinterpret_cast<const char*>(values.data()), 4 * d, d, cuda::Dtype::f32, nullptr};
  }
  cuda::Selection selection() { return {rows(), {}, picks.data(), bounds.data(), met.data()}; }
  double distance(int64_t i, int64_t j) const { return ::distance(rows(), i, rows(), j); }
  cuda::Key key(int64_t row) const { return {bounds[size_t(row)], row}; }
  // Plain: lowers every row that is not picked at once.
  void pick(int64_t row, int64_t count) {
    picks[size_t(count)] = row;
    bounds[size_t(row)] = cuda::kPicked;
    for (int64_t i = 0; i < n; ++i)
      if (bounds[size_t(i)] >= 0) bounds[size_t(i)] = std::min(bounds[size_t(i)], distance(i, row));
  }

  int64_t n, d;
  std::vector<float> values;
  std::vector<double> bounds;
  std::vector<int32_t> met;
  std::vector<int64_t> picks;
};

struct Buffers {
  explicit Buffers(int64_t rows, int64_t limit)
      : micro(cuda::kMicro),
        between(cuda::kMicro * cuda::kMicro),
        keys(size_t(rows)),
        squared(size_t(limit)) {}
  cuda::Scratch scratch() {
    return {&state, micro.data(), between.data(), keys.data(), squared.data()};
  }
  cuda::State state;
  std::vector<int64_t> micro;
  std::vector<double> between;
  std::vector<uint64_t> keys;
  std::vector<double> squared;
};

// One call that settles picks: a pool with one pick, which every row has met, and a copy for the
// plain loop. The block has some of the rows; the best other row is the rival.
struct Call {
  explicit Call(int trial, int64_t most)
      : grid(1 + int64_t(random64() % uint64_t(trial % 3 ? most / 8 : most)),
             1 + int64_t(random64() % 5), 2 + int(random64() % 9)),
        plain(grid) {
    const int64_t n = grid.n, first = int64_t(random64() % uint64_t(n));
    grid.pick(first, 0);
    for (int32_t& s : grid.met) s = 1;
    plain.pick(first, 0);
    for (int64_t i = 0; i < n; ++i) {
      const cuda::Key key = grid.key(i);
      if (key.bound < 0) continue;
      if (key.bound >= 1 && random64() % 8)
        rows.push_back(i);
      else if (key.beats(rival))
        rival = key;
    }
    if (trial % 4 == 0) rival = {cuda::kPicked, -1};
    limit = int64_t(random64() % uint64_t(n));
    floor = double(random64() % 3);
  }

  void check(const cuda::Settled& settled, const std::vector<double>& squared) {
    double next = -1;
    int64_t picked = 0;
    for (;; ++picked) {
      cuda::Key best = rival;
      for (int64_t i : rows) {
        const cuda::Key key = plain.key(i);
        if (key.bound >= 0 && key.beats(best)) best = key;
      }
      if (best.row == rival.row) break;
      if (picked == limit || best.bound < floor) {
        next = best.bound;
        break;
      }
      require(picked < settled.picked, "too few picks", picked);
      require(grid.picks[size_t(1 + picked)] == best.row, "pick", picked);
      require(squared[size_t(picked)] == best.bound, "its bound", picked);
      plain.pick(best.row, 1 + picked);
    }
    require(settled.picked == picked, "number of picks", settled.picked, picked);
    require(settled.next == next, "next", int64_t(settled.next), int64_t(next));
    for (int64_t i : rows) {
      require(grid.bounds[size_t(i)] >= plain.bounds[size_t(i)], "bound too small", i);
      require(grid.met[size_t(i)] <= 1 + picked, "met", i);
      if (grid.met[size_t(i)] == 1 + picked)
        require(grid.bounds[size_t(i)] == plain.bounds[size_t(i)], "bound of a row up to date", i);
    }
    cuda::State state;
    cuda::catch_up(grid.selection(), &state, rows.data(), int64_t(rows.size()), 1 + picked, {});
    for (int64_t i : rows) require(grid.bounds[size_t(i)] == plain.bounds[size_t(i)], "bound", i);
  }

  Grid grid, plain;
  std::vector<int64_t> rows;
  cuda::Key rival = {cuda::kPicked, -1};
  int64_t limit;
  double floor;
};

inline void farthest(int trials, int64_t most) {
  for (int trial = 0; trial < trials; ++trial) {
    Call call(trial, most);
    Buffers buffers(int64_t(call.rows.size()), call.limit);
    const cuda::Settled settled =
        cuda::farthest_first(call.grid.selection(), buffers.scratch(), call.rows.data(),
                             int64_t(call.rows.size()), 1, call.rival, call.limit, call.floor, {});
    call.check(settled, buffers.squared);
  }
  std::puts("farthest");
}

// The pairs that a filter leaves open, if it leaves all: of places in `order`, in any order.
struct AllPairs {
  explicit AllPairs(int64_t n)
      : places(size_t(n)), reach(size_t(n), float(kInfinity)), zero(size_t(n)) {
    for (int64_t i = 0; i < n; ++i) places[size_t(i)] = i;
    for (int32_t i = 0; i < n; ++i)
      for (int32_t j = 0; j < n; ++j) slot.push_back(i), column.push_back(j);
    for (size_t i = slot.size(); i > 1; --i) {
      const size_t j = random64() % i;
      std::swap(slot[i - 1], slot[j]), std::swap(column[i - 1], column[j]);
    }
    score.resize(slot.size());
  }
  cuda::Pairs pairs() const {
    return {slot.data(), column.data(), score.data(), int64_t(slot.size())};
  }
  cuda::Sides sides() {
    const cuda::Coded coded = {nullptr, zero.data(), zero.data(), zero.data()};
    return {places.data(), nullptr, coded, coded, reach.data(), 0};
  }
  std::vector<int64_t> places;
  std::vector<float> reach, zero, score;
  std::vector<int32_t> slot, column;
};

inline void conflicts(int trials, int64_t most) {
  for (int trial = 0; trial < trials; ++trial) {
    Call call(trial, most);
    std::vector<int64_t> rows;
    for (int64_t i : call.rows)
      if (call.grid.key(i).beats(call.rival)) rows.push_back(i);
    const int64_t n = int64_t(rows.size());
    if (n == 0) continue;
    std::vector<int64_t> order(static_cast<size_t>(n)), picks(order), place(order);
    for (int64_t i = 0; i < n; ++i) order[size_t(i)] = place[size_t(i)] = i;
    std::sort(order.begin(), order.end(), [&](int64_t i, int64_t j) {
      return call.grid.key(rows[size_t(j)]).beats(call.grid.key(rows[size_t(i)]));
    });
    const int32_t capacity = int32_t(n * n);
    cuda::Outcome outcome = {};
    std::vector<cuda::Conflict> pairs(static_cast<size_t>(capacity));
    std::vector<int32_t> left(2 * pairs.size()), blocked(static_cast<size_t>(n)), turn(blocked);
    std::vector<double> value(static_cast<size_t>(n)), sorted(value), squared(value);
    const cuda::Conflicts memory = {rows.data(),  n,           call.rival,   &outcome,
                                    pairs.data(), left.data(), value.data(), blocked.data(),
                                    turn.data(),  capacity};
    AllPairs open(n);
    const cuda::Selection selection = call.grid.selection();
    cuda::begin_conflicts(selection, memory, 1, {});
    cuda::add_conflicts(selection, memory, order.data(), open.pairs(), open.sides(), {});
    cuda::pick_by_conflicts(memory, {}, trial % 2 ? n : n + 1);
    std::stable_sort(place.begin(), place.end(),
                     [&](int64_t i, int64_t j) { return value[size_t(i)] > value[size_t(j)]; });
    for (size_t i = 0; i < place.size(); ++i) sorted[i] = value[size_t(place[i])];
    cuda::keep_picks(selection, memory, sorted.data(), place.data(), 1, call.limit, call.floor,
                     picks.data(), squared.data(), {});
    require(outcome.unfit == 0 && outcome.conflicts <= n * (n - 1) / 2, "outcome",
            outcome.conflicts);
    for (int64_t i = 0; i < outcome.picked; ++i)
      require(picks[size_t(i)] == call.grid.picks[size_t(1 + i)], "its row", i);
    call.check({outcome.picked, outcome.next}, squared);
  }
  std::puts("conflicts");
}

inline void in_order(int trials, int64_t most) {
  for (int trial = 0; trial < trials; ++trial) {
    Call call(trial, most);
    Grid &grid = call.grid, &plain = call.plain;
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < grid.n; ++i)
      if (grid.bounds[size_t(i)] >= 0) rows.push_back(i);
    for (size_t i = rows.size(); i > 1; --i) std::swap(rows[i - 1], rows[random64() % i]);
    const double floor = double(random64() % 6);
    Buffers buffers(1, call.limit);
    const int64_t picked = cuda::in_order(grid.selection(), buffers.scratch(), rows.data(),
                                          int64_t(rows.size()), 1, call.limit, floor, {});
    int64_t expected = 0;
    for (int64_t i : rows) {
      const double bound = plain.bounds[size_t(i)];
      if (expected == call.limit || bound < floor) continue;
      require(expected < picked, "too few accepted", trial, expected);
      require(grid.picks[size_t(1 + expected)] == i, "accepted", trial, expected);
      require(buffers.squared[size_t(expected)] == bound, "its bound", trial, expected);
      plain.pick(i, 1 + expected++);
    }
    require(picked == expected, "number accepted", picked, expected);
  }
  std::puts("in-order");
}
