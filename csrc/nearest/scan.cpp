#include "nearest/scan.h"

#include <algorithm>
#include <limits>

#include "base/threads.h"

namespace entroselect {

namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Suspects of one row before they are rechecked early; bounds the memory of pools full of ties.
constexpr int64_t kManySuspects = 1024;

// Panels that share one set of thresholds.
constexpr int64_t kShared = 8;

// Up to this k, exact distances are inserted one by one, which tightens the reach at once; beyond
// it they are collected and merged.
constexpr int64_t kInsert = 32;

int64_t most_suspects(int64_t k) { return std::max(kManySuspects, 4 * k); }
}  // namespace

Panels pack_all(const Rows& points, const Frame& frame, const Kernels& kernels, int threads,
                const std::function<void()>& poll) {
  Panels panels(frame.words, frame.form == Form::bytes ? kernels.panel_offset : 0);
  panels.resize(points.n);
  std::vector<Coder> coders;
  for (int w = 0; w < threads; ++w) coders.emplace_back(frame, kernels);
  parallel_for(
      threads, panels.size(),
      [&](int64_t p, int worker) {
        std::vector<uint32_t> code(static_cast<size_t>(frame.words));
        for (int64_t i = p * kPanel; i < std::min(points.n, (p + 1) * kPanel); ++i) {
          const Coded coded = coders[size_t(worker)].column(points, i, code.data());
          panels.put(i, code.data(), coded);
        }
      },
      poll);
  return panels;
}

int64_t Scan::bytes_per_row(int64_t k) {
  constexpr int64_t kLists = 64;  // best_ and the row's uppers, half empty as well; and found_
  static_assert(2 * sizeof(Neighbour) + 2 * sizeof(double) <= kLists, "a row takes more");
  return 2 * int64_t(sizeof(Suspect)) * (most_suspects(k) + kPanel) + kLists * k;
}

Scan::Scan(const Frame& frame, const Kernels& kernels, int64_t k, int rows)
    : frame_(frame),
      kernels_(kernels),
      k_(k),
      rows_(size_t(rows)),
      best_(size_t(rows * k)),
      group_(frame, kernels),
      canonical_(padded(frame.d)) {}

void Scan::set_row(int g, const Rows& rows, int64_t i, const uint32_t* code, const Coded& coded,
                   const Neighbour* best, int64_t self) {
  Row& row = rows_[size_t(g)];
  row.rows = &rows;
  row.index = i;
  row.self = self;
  row.suspects.clear();
  row.uppers.clear();
  std::copy(best, best + k_, best_.begin() + g * k_);
  row.reach = frame_.certificate.reach(best[k_ - 1].squared);
  group_.set_row(g, code, coded);
}

void Scan::run(int count, const Panels& panels, int64_t first, int64_t last,
               const ExactDistance& exact) {
  const int64_t end = (last + kPanel - 1) / kPanel;
  ColumnBounds most;
  const auto set_threshold = [&](int g) {
    group_.threshold[g] =
        frame_.certificate.threshold(group_.bounds[g], most, rows_[size_t(g)].reach);
  };
  int64_t shared = 0;  // panels up to here share `most`
  for (int64_t p = first / kPanel; p < end; ++p) {
    if (p >= shared) {
      shared = std::min(end, p + kShared);
      most = panels.most(p, shared);
      for (int g = 0; g < count; ++g) set_threshold(g);
    }
    const Panels::Panel& panel = panels.panel(p);
    const int64_t base = p * kPanel;
    uint32_t valid = ~uint32_t(0);
    if (base < first) valid &= ~uint32_t(0) << (first - base);
    if (last - base < kPanel) valid &= ~(~uint32_t(0) << (last - base));
    pairs += int64_t(__builtin_popcount(valid)) * count;
    for (uint64_t any = group_.score(count, panel); any; any &= any - 1) {
      const int g = __builtin_ctzll(any);
      const uint32_t mask = group_.mask[g] & valid;
      if (!mask) continue;
      collect(g, mask, panel.bounds, base);
      if (int64_t(rows_[size_t(g)].suspects.size()) > most_suspects(k_)) recheck(g, exact);
      set_threshold(g);
    }
  }
  for (int g = 0; g < count; ++g) recheck(g, exact);
}

// Stores the pairs that passed as suspects; the best of them lower the reach for later pairs.
void Scan::collect(int g, uint32_t mask, const ColumnBounds* columns, int64_t base) {
  Row& row = rows_[size_t(g)];
  const float* scores = group_.scores + g * kPanel;
  double kth = kInfinity;
  for (; mask; mask &= mask - 1) {
    const int column = __builtin_ctz(mask);
    if (base + column == row.self) continue;
    const auto interval =
        frame_.certificate.interval(group_.bounds[g], columns[column], scores[column]);
    if (interval.lower > row.reach) continue;
    row.suspects.push_back({interval.lower, base + column});
    if (int64_t(row.uppers.size()) == k_) {
      if (interval.upper >= row.uppers.front()) continue;
      std::pop_heap(row.uppers.begin(), row.uppers.end());
      row.uppers.pop_back();
    }
    row.uppers.push_back(interval.upper);
    std::push_heap(row.uppers.begin(), row.uppers.end());
  }
  if (int64_t(row.uppers.size()) == k_) kth = row.uppers.front();
  row.reach = std::min(row.reach, frame_.certificate.widen(kth));
}

void Scan::recheck(int g, const ExactDistance& exact) {
  Row& row = rows_[size_t(g)];
  if (row.suspects.empty()) return;
  Neighbour* best = best_.data() + g * k_;
  std::sort(row.suspects.begin(), row.suspects.end(),
            [](const Suspect& a, const Suspect& b) { return a.lower < b.lower; });
  bool loaded = false;
  for (const Suspect& suspect : row.suspects) {
    if (suspect.lower > row.reach) break;
    if (!loaded) kernels_.load_row(*row.rows, row.index, canonical_.get());
    loaded = true;
    const Neighbour found = {exact(canonical_.get(), suspect.other), suspect.other};
    ++rechecks;
    if (!(found < best[k_ - 1])) continue;
    if (k_ > kInsert) {
      found_.push_back(found);
      continue;
    }
    insert(best, found);
    row.reach = std::min(row.reach, frame_.certificate.reach(best[k_ - 1].squared));
  }
  if (!found_.empty()) {
    merge(best);
    row.reach = std::min(row.reach, frame_.certificate.reach(best[k_ - 1].squared));
  }
  row.suspects.clear();
}

void Scan::insert(Neighbour* best, const Neighbour& found) const {
  int64_t place = k_ - 1;
  for (; place > 0 && found < best[place - 1]; --place) best[place] = best[place - 1];
  best[place] = found;
}

// The k smallest of best and found_.
void Scan::merge(Neighbour* best) {
  found_.insert(found_.end(), best, best + k_);
  std::partial_sort(found_.begin(), found_.begin() + k_, found_.end());
  std::copy(found_.begin(), found_.begin() + k_, best);
  found_.clear();
}

}  // namespace entroselect
