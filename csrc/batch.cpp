#include "batch.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <stdexcept>
#include <vector>

#include "base/pool.h"
#include "base/threads.h"
#include "row_passes.h"
#include "tree/tree.h"
#include "tree_or_filter.h"

namespace entroselect {

namespace {

// Up to this many points, the boxes of all leaves are compared with a pick, eight at a time;
// beyond, a walk down a tree takes fewer steps.
constexpr int64_t kInOneLevel = 8192;

// Picks for which it pays to bring the points of a leaf close together.
constexpr int64_t kWorthTree = 200;

constexpr int64_t kLeastBlock = 1024;  // rows of a frontier, as in entroselect/engine.py

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Worker threads do not poll.
const std::function<void()> kNoPoll = [] {};

// Where the picks of a cloud go.
struct Output {
  int64_t* indices;
  double* squared;
};

// Points in leaves, as in a tree without its upper levels. A leaf whose best bound is at most the
// distance to its box has no bound that a pick can lower.
class LeafRow {
 public:
  // Points of a leaf lie close together, or follow each other in the cloud, which takes no time.
  LeafRow(const Rows& rows, const Kernels& kernels, bool close)
      : kernels_(kernels),
        n_(rows.n),
        d_(rows.d),
        leaves_((n_ + kLeaf - 1) / kLeaf),
        stride_((leaves_ + 7) / 8 * 8),
        columns_(leaves_ * d_ * kLeaf),
        rows_(leaves_ * kLeaf),
        boxes_(size_t(2 * d_ * stride_)),
        bounds_(size_t(leaves_ * kLeaf), kPicked),
        best_(size_t(stride_), kPicked),
        best_row_(size_t(stride_), -1),
        place_(size_t(stride_)),
        nearer_(size_t(stride_)) {
    if (close) {
      const Tree tree(rows, kernels, 1, kNoPoll);
      std::copy_n(tree.columns(0), leaves_ * d_ * kLeaf, columns_.get());
      std::copy_n(tree.rows(0), n_, rows_.get());
    } else {
      double x[kTreeWidth];
      for (int64_t i = 0; i < n_; ++i) {
        kernels.load_row(rows, i, x);
        for (int64_t l = 0; l < d_; ++l) column(i / kLeaf, l)[i % kLeaf] = x[l];
        rows_[i] = i;
      }
      for (int64_t i = n_; i < leaves_ * kLeaf; ++i)
        for (int64_t l = 0; l < d_; ++l) column(i / kLeaf, l)[i % kLeaf] = 0;
    }
    std::fill_n(bounds_.begin(), n_, kInfinity);
    for (int64_t leaf = 0; leaf < leaves_; ++leaf)
      for (int64_t l = 0; l < d_; ++l) {
        const double* values = column(leaf, l);
        const auto ends =
            std::minmax_element(values, values + std::min(int64_t(kLeaf), n_ - leaf * kLeaf));
        boxes_[size_t(l * stride_ + leaf)] = *ends.first;
        boxes_[size_t((d_ + l) * stride_ + leaf)] = *ends.second;
      }
  }

  // Returns the squared radius, kPicked when no point is left.
  double run(int64_t start, int64_t k, Output out) {
    const int64_t place = std::find(rows_.get(), rows_.get() + n_, start) - rows_.get();
    int64_t leaf = place / kLeaf;
    place_[size_t(leaf)] = int(place % kLeaf);
    best_row_[size_t(leaf)] = start;
    std::fill_n(best_.begin(), leaves_, kInfinity);
    for (int64_t m = 0; m < k; ++m) {
      out.indices[m] = best_row_[size_t(leaf)];
      out.squared[m] = best_[size_t(leaf)];
      pick(leaf);
      leaf = kernels_.best_leaf(best_.data(), best_row_.data(), stride_);
    }
    return best_[size_t(leaf)];
  }

 private:
  double* column(int64_t leaf, int64_t l) { return &columns_[(leaf * d_ + l) * kLeaf]; }

  void pick(int64_t leaf) {
    const int place = place_[size_t(leaf)];
    double x[kTreeWidth];
    for (int64_t l = 0; l < d_; ++l) x[l] = column(leaf, l)[place];
    bounds_[size_t(leaf * kLeaf + place)] = kPicked;
    best_[size_t(leaf)] = kInfinity;  // so that it is among those that are updated
    const Leaves leaves = {stride_, boxes_.data(), best_.data()};
    const int64_t count = kernels_.nearer_leaves(x, leaves, d_, nearer_.data());
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = nearer_[size_t(i)];
      double* bounds = &bounds_[size_t(at * kLeaf)];
      const int best = kernels_.lower_leaf(x, column(at, 0), d_, bounds);
      place_[size_t(at)] = best;
      best_[size_t(at)] = bounds[best];
      best_row_[size_t(at)] = rows_[at * kLeaf + best];
    }
  }

  const Kernels& kernels_;
  int64_t n_, d_, leaves_, stride_;
  Buffer<double> columns_;              // [leaves][d][kLeaf]
  Buffer<int64_t> rows_;                // [leaves][kLeaf], ascending in a leaf
  std::vector<double> boxes_, bounds_;  // [2][d][stride], [leaves][kLeaf]
  std::vector<double> best_;            // largest bound of each leaf
  std::vector<int64_t> best_row_;       // its row, the lowest of equals
  std::vector<int> place_;              // and that row's place in the leaf
  std::vector<int32_t> nearer_;
};

// The rounds of entroselect/engine.py's farthest_first.
double by_rounds(const Rows& rows, int64_t start, int64_t k, const Kernels& kernels, Output out) {
  const auto pool = build_pool(rows, kernels, "auto", Grouping::automatic, 1, kNoPoll);
  out.indices[0] = start;
  out.squared[0] = kInfinity;
  pool->add_picks(&start, 1);
  pool->refresh_all(kInfinity);
  const int64_t size = std::max(std::min(rows.n, kLeastBlock), rows.n / 8);
  double next = -1;  // squared distance of the next pick; negative while undecided
  Key before = {kInfinity, -1};
  for (int64_t done = 1; pool->available() > 0 && (next < 0 || done < k);) {
    const auto [frontier, rival] = pool->frontier(size);
    pool->refresh(frontier, rival.bound);
    const auto [picks, left] = pool->settle(frontier, rival, k - done, 0);
    next = left;
    if (picks.rows.empty() && next < 0 && !before.beats(rival))
      throw std::runtime_error("points: changed while they were being compared");
    before = picks.rows.empty() ? rival : Key{kInfinity, -1};
    std::copy(picks.rows.begin(), picks.rows.end(), out.indices + done);
    std::copy(picks.squared.begin(), picks.squared.end(), out.squared + done);
    done += int64_t(picks.rows.size());
  }
  return next;
}

}  // namespace

int64_t first_unusable_point(const Clouds& clouds, const Kernels& kernels, double largest,
                             int threads, const std::function<void()>& poll) {
  std::atomic<int64_t> first{clouds.rows.n};
  parallel_for(
      threads, clouds.count,
      [&](int64_t c, int) {
        int64_t known = first.load(std::memory_order_relaxed);
        if (c * clouds.n >= known) return;
        const int64_t found = first_unusable_row(clouds.cloud(c), kernels, largest, 1, kNoPoll);
        const int64_t row = c * clouds.n + found;
        while (found >= 0 && row < known && !first.compare_exchange_weak(known, row)) {
        }
      },
      poll);
  return first == clouds.rows.n ? -1 : first.load();
}

void centers_of(const Clouds& clouds, bool farthest, const Kernels& kernels, int threads,
                const std::function<void()>& poll, int64_t* indices) {
  parallel_for(
      threads, clouds.count,
      [&](int64_t c, int) {
        const Rows rows = clouds.cloud(c);
        std::vector<double> mean(size_t(rows.d)), squared(size_t(rows.n));
        add_rows(rows, kernels, kNoPoll, mean.data());
        for (double& value : mean) value /= double(rows.n);
        distances_to(rows, mean.data(), kernels, 1, kNoPoll, squared.data());
        const auto found = farthest ? std::max_element(squared.begin(), squared.end())
                                    : std::min_element(squared.begin(), squared.end());
        indices[c] = found - squared.begin();  // the first of equals
      },
      poll);
}

void batch_greedy(const Clouds& clouds, int64_t k, const int64_t* starts, const Kernels& kernels,
                  int threads, const std::function<void()>& poll, int64_t* indices, double* squared,
                  double* radius) {
  parallel_for(
      threads, clouds.count,
      [&](int64_t c, int) {
        const Rows rows = clouds.cloud(c);
        const Output out = {indices + c * k, squared + c * k};
        const bool small = rows.d <= kTreeWidth && rows.n <= kInOneLevel;
        const double left = small ? LeafRow(rows, kernels, k >= kWorthTree).run(starts[c], k, out)
                                  : by_rounds(rows, starts[c], k, kernels, out);
        radius[c] = std::max(left, 0.0);
      },
      poll);
}

}  // namespace entroselect
