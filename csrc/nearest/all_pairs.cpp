#include "nearest/all_pairs.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "base/threads.h"
#include "nearest/scan.h"

namespace entroselect {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kSeedPanels = 8;  // panels that are scanned for every row first
constexpr int64_t kShared = 8;      // panels that share one set of thresholds
constexpr int kLocks = 256;
// Suspects of all threads: kLeastSuspects, or one per kValuesPerSuspect values: less than half of
// the memory that the values would take in float32.
constexpr int64_t kLeastSuspects = 4096, kValuesPerSuspect = 10;

// A pair either row of which may be the other's nearest, and its distance in the frame.
struct Pair {
  float lower, upper;
  int32_t row, column;
};

// A float on the far side of a double.
float below(double value) {
  const float f = float(value);
  return f - (std::fabs(f) * 0x1p-23f + 0x1p-126f);
}
float above(double value) { return -below(-value); }

class AllPairs {
 public:
  AllPairs(const Rows& points, const Frame& frame, const Panels& panels, const Kernels& kernels,
           int threads, double* squared, int64_t* indices)
      : points_(points),
        frame_(frame),
        panels_(panels),
        kernels_(kernels),
        threads_(threads),
        squared_(squared),
        indices_(indices),
        groups_((points.n + kGroup - 1) / kGroup),
        seeds_(std::clamp<int64_t>(panels.size() / 16, 1, kSeedPanels)),
        most_suspects_(std::max(points.n * frame.d / kValuesPerSuspect, kLeastSuspects) / threads),
        reach_(size_t(points.n)),
        locks_(kLocks) {
    for (int w = 0; w < threads; ++w)
      workers_.push_back(std::make_unique<Worker>(frame, kernels, most_suspects_));
  }

  void run(const std::function<void(int64_t)>& poll) {
    const auto report = [&] { poll(pairs_done_.load() * 2 / (points_.n + 1)); };
    parallel_for(
        threads_, groups_, [&](int64_t g, int w) { seed(g, *workers_[size_t(w)]); }, report);
    for (auto& worker : workers_) worker->scan.reset();
    parallel_for(
        threads_, groups_, [&](int64_t g, int w) { sweep(g, *workers_[size_t(w)]); }, report);
    parallel_for(
        threads_, threads_, [&](int64_t w, int) { recheck(*workers_[size_t(w)], 0); }, report);
  }

 private:
  struct Worker {
    Worker(const Frame& frame, const Kernels& kernels, int64_t most_suspects)
        : scan(std::make_unique<Scan>(frame, kernels, 1, kGroup)),
          group(frame, kernels),
          coder(frame, kernels),
          codes(kGroup * frame.words),
          canonical(padded(frame.d)) {
      suspects.reserve(size_t(most_suspects + kGroup * kPanel));
    }

    std::unique_ptr<Scan> scan;
    Group group;
    Coder coder;
    Buffer<uint32_t> codes;
    Buffer<double> canonical;
    int64_t loaded = -1;  // the row in `canonical`
    std::vector<Pair> suspects;
  };

  int rows_of(int64_t g) const { return int(std::min<int64_t>(points_.n - g * kGroup, kGroup)); }

  double reach(int64_t i) const { return reach_[size_t(i)].load(std::memory_order_relaxed); }
  void lower_reach(int64_t i, double to) {
    std::atomic<double>& reach = reach_[size_t(i)];
    double from = reach.load(std::memory_order_relaxed);
    while (to < from && !reach.compare_exchange_weak(from, to, std::memory_order_relaxed)) {
    }
  }

  // A first answer for the rows of a group, from panels around the group's own.
  void seed(int64_t item, Worker& own) {
    const int64_t first = item * kGroup;
    const int count = rows_of(item);
    for (int g = 0; g < count; ++g) {
      uint32_t* code = &own.codes[g * frame_.words];
      const Coded coded = own.coder.row(points_, first + g, code);
      const Neighbour known = {squared_[first + g], indices_[first + g]};
      own.scan->set_row(g, points_, first + g, code, coded, &known, first + g);
    }
    const int64_t panel = std::min(first / kPanel, panels_.size() - seeds_);
    own.scan->run(
        count, panels_, panel * kPanel, std::min(points_.n, (panel + seeds_) * kPanel),
        [&](const double* x, int64_t j) { return kernels_.distance_to_row(x, points_, j); });
    for (int g = 0; g < count; ++g) {
      const Neighbour& best = own.scan->best(g)[0];
      squared_[first + g] = best.squared;
      indices_[first + g] = best.index;
      reach_[size_t(first + g)] = frame_.certificate.reach(best.squared);
    }
  }

  // Bounds over the group's rows, for the limits that columns apply. A row with a much larger
  // residual would loosen them for all: of such a row everything passes instead.
  RowBounds columns_allow_for(Group& group, int count) const {
    std::vector<double> residuals, norms;
    for (int g = 0; g < count; ++g) {
      residuals.push_back(group.bounds[g].residual);
      norms.push_back(group.bounds[g].norm);
    }
    const auto median = [&](std::vector<double>& values) {
      std::nth_element(values.begin(), values.begin() + count / 2, values.end());
      return values[size_t(count / 2)];
    };
    const double loose = 4 * std::max(median(residuals), median(norms) / 128);
    RowBounds most = {0, 0, 0};
    for (int g = 0; g < count; ++g) {
      const RowBounds& row = group.bounds[g];
      if (!(row.residual <= loose)) {
        group.half[g] = -std::numeric_limits<float>::infinity();
        continue;
      }
      most.norm2 = std::max(most.norm2, row.norm2);
      most.norm = std::max(most.norm, row.norm);
      most.residual = std::max(most.residual, row.residual);
    }
    return most;
  }

  // Scores the rows of a group against all later rows.
  void sweep(int64_t item, Worker& own) {
    const Certificate& certificate = frame_.certificate;
    const int64_t first = item * kGroup, end = panels_.size();
    const int count = rows_of(item);
    Group& group = own.group;
    for (int g = 0; g < count; ++g) {
      uint32_t* code = &own.codes[g * frame_.words];
      group.set_row(g, code, own.coder.row(points_, first + g, code));
    }
    const RowBounds rows = columns_allow_for(group, count);
    ColumnBounds most;
    const auto set_threshold = [&](int g) {
      group.threshold[g] = certificate.threshold(group.bounds[g], most, reach(first + g));
    };
    int64_t shared = 0;
    for (int64_t p = first / kPanel; p < end; ++p) {
      if (p >= shared) {
        shared = std::min(end, p + kShared);
        most = panels_.most(p, shared);
        for (int g = 0; g < count; ++g) set_threshold(g);
      }
      const Panels::Panel& panel = panels_.panel(p);
      const int64_t base = p * kPanel;
      const int held = int(std::min<int64_t>(points_.n - base, kPanel));
      float limit[kPanel] = {};
      for (int c = 0; c < held; ++c)
        limit[c] = certificate.limit(rows, panel.bounds[c], reach(base + c));
      const uint32_t valid = ~uint32_t(0) >> (kPanel - held);
      for (uint64_t any = group.score_both(count, panel, limit); any; any &= any - 1) {
        const int g = __builtin_ctzll(any);
        const int64_t passed = first + g + 1 - base;  // columns up to the row itself
        if (passed >= kPanel) continue;
        uint32_t mask = group.mask[g] & valid;
        if (passed > 0) mask &= ~uint32_t(0) << passed;
        if (!mask) continue;
        for (; mask; mask &= mask - 1) {
          const int c = __builtin_ctz(mask);
          note(first + g, base + c,
               certificate.interval(group.bounds[g], panel.bounds[c], group.scores[g * kPanel + c]),
               own);
        }
        set_threshold(g);
      }
      if (int64_t(own.suspects.size()) >= most_suspects_) recheck(own, most_suspects_ / 2);
    }
    pairs_done_ += count * (points_.n - first - count / 2);
  }

  void note(int64_t row, int64_t column, const Certificate::Interval& interval, Worker& own) {
    const Pair pair = {below(interval.lower), above(interval.upper), int32_t(row), int32_t(column)};
    if (!wanted(pair)) return;
    own.suspects.push_back(pair);
    const double within = frame_.certificate.widen(double(pair.upper));
    lower_reach(row, within);
    lower_reach(column, within);
  }

  bool wanted(const Pair& pair) const {
    return double(pair.lower) <= reach(pair.row) || double(pair.lower) <= reach(pair.column);
  }

  // Drops suspects that no longer matter and, if more than `allowed` are left, rechecks them.
  void recheck(Worker& own, int64_t allowed) {
    // First the pair that set the reach of one of its rows: its exact distance mostly decides that
    // row.
    auto kept = own.suspects.begin();
    for (const Pair& pair : own.suspects) {
      if (!wanted(pair)) continue;
      const double within = frame_.certificate.widen(double(pair.upper));
      if (within <= reach(pair.row) || within <= reach(pair.column))
        recheck_pair(pair, own);
      else
        *kept++ = pair;
    }
    own.suspects.erase(kept, own.suspects.end());
    kept = own.suspects.begin();
    for (const Pair& pair : own.suspects)
      if (wanted(pair)) *kept++ = pair;
    own.suspects.erase(kept, own.suspects.end());
    if (int64_t(own.suspects.size()) <= allowed) return;
    for (const Pair& pair : own.suspects)
      if (wanted(pair)) recheck_pair(pair, own);
    own.suspects.clear();
  }

  void recheck_pair(const Pair& pair, Worker& own) {
    if (is_copy(pair.row, pair.column) && is_copy(pair.column, pair.row)) return;
    if (own.loaded != pair.row) kernels_.load_row(points_, pair.row, own.canonical.get());
    own.loaded = pair.row;
    // The same bits for both rows: differences change sign, squares do not.
    const double squared = kernels_.distance_to_row(own.canonical.get(), points_, pair.column);
    offer(pair.row, pair.column, squared);
    offer(pair.column, pair.row, squared);
  }

  std::mutex& lock_of(int64_t i) { return locks_[size_t(i % kLocks)]; }

  // Whether row i has a neighbour at distance 0 with an index below j: row j cannot beat it.
  bool is_copy(int64_t i, int64_t j) {
    const std::lock_guard<std::mutex> guard(lock_of(i));
    return squared_[i] == 0 && indices_[i] <= j;
  }

  void offer(int64_t i, int64_t j, double squared) {
    {
      const std::lock_guard<std::mutex> guard(lock_of(i));
      if (!(Neighbour{squared, j} < Neighbour{squared_[i], indices_[i]})) return;
      squared_[i] = squared;
      indices_[i] = j;
    }
    lower_reach(i, frame_.certificate.reach(squared));
  }

  const Rows& points_;
  const Frame& frame_;
  const Panels& panels_;
  const Kernels& kernels_;
  const int threads_;
  double* const squared_;
  int64_t* const indices_;
  const int64_t groups_, seeds_, most_suspects_;
  std::vector<std::atomic<double>> reach_;  // per row; no farther pair matters to it
  std::vector<std::mutex> locks_;           // of squared_ and indices_
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<int64_t> pairs_done_{0};
};

}  // namespace

void all_pairs(const Rows& points, const Frame& frame, const Panels& panels, const Kernels& kernels,
               int threads, const std::function<void(int64_t)>& poll, double* squared,
               int64_t* indices) {
  AllPairs(points, frame, panels, kernels, threads, squared, indices).run(poll);
}

int64_t all_pairs_bytes_per_row(int64_t d) {
  return int64_t(sizeof(std::atomic<double>)) + int64_t(sizeof(Pair)) * d / kValuesPerSuspect;
}

}  // namespace entroselect
