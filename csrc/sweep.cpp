#include "sweep.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace entroselect {

namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Suspects of one row before they are settled early; bounds the memory of pools full of ties.
constexpr size_t kManySuspects = 1024;

// Panels that share one set of thresholds, and after which rows that are done leave their group.
constexpr int64_t kShared = 4;

// Bounds this far below what is wanted may be rough.
constexpr double kFar = 0.9;

// How far ahead rows are fetched from memory.
constexpr size_t kAhead = 2;
}  // namespace

Unseen Unseen::without(int64_t from, int64_t choices) const {
  const auto at = [](int64_t choice) { return int32_t(choice); };
  if (from <= next) return {first, std::max(first, std::min(last, at(from))), at(choices)};
  if (last <= first) return {next, at(from), at(choices)};
  if (choices - from < next - last) return *this;
  return {first, at(from), at(choices)};
}

Sweep::Sweep(const Filter& filter, const Kernels& kernels, const Rows& pool, ExactDistance exact,
             int64_t rows)
    : filter_(filter),
      kernels_(kernels),
      pool_(pool),
      exact_(std::move(exact)),
      rows_(size_t(rows)),
      group_(filter, kernels),
      canonical_(padded(filter.d)) {}

void Sweep::add(int64_t i, const uint32_t* code, const Coded& coded, double bound, Unseen unseen) {
  Row& row = rows_[size_t(size_++)];
  row.index = i;
  row.code = code;
  row.coded = coded;
  row.bounds = {coded.norm2, std::sqrt(coded.norm2), coded.residual};
  row.unseen = unseen;
  row.done = false;
  row.bound = bound;
  row.reach = filter_.certificate.reach(bound);
  row.upper = kInfinity;
  row.suspects.clear();
}

void Sweep::run(const Packed& packed, double enough) {
  refreshed += size_;
  active_.clear();
  for (int64_t g = 0; g < size_; ++g) active_.push_back(&rows_[size_t(g)]);
  int64_t end = packed.size(), shared = 1;
  while (!active_.empty()) {
    int64_t newest = 0, oldest = end;
    for (const Row* row : active_) {
      newest = std::max(newest, row->unseen.newest(end));
      oldest = std::min(oldest, row->unseen.oldest());
    }
    if (newest == 0) break;
    const int64_t last = (newest + kPanel - 1) / kPanel;
    const int64_t first = std::max(oldest / kPanel, last - shared);
    members_.clear();
    for (Row* row : active_)
      if (row->unseen.newest(std::min(end, last * kPanel)) > first * kPanel)
        members_.push_back(row);
    scan_panels(packed, first, last, enough);
    for (Row* row : leaving_) settle(*row);
    active_.erase(
        std::remove_if(active_.begin(), active_.end(), [](const Row* row) { return row->done; }),
        active_.end());
    end = first * kPanel;
    shared = std::min(2 * shared, kShared);
  }
  for (size_t j = 0; j < active_.size(); ++j) {
    if (j + kAhead < active_.size()) pool_.prefetch(active_[j + kAhead]->index);
    settle(*active_[j]);
    active_[j]->unseen = active_[j]->unseen.without(0, packed.size());
  }
}

// Panels [first, last), the newest first, for the members.
void Sweep::scan_panels(const Packed& packed, int64_t first, int64_t last, double enough) {
  leaving_.clear();
  const ColumnBounds most = packed.most(first, last);
  for (size_t begin = 0; begin < members_.size(); begin += kGroup) {
    Row* const* group = &members_[begin];
    const int count = int(std::min<size_t>(kGroup, members_.size() - begin));
    const auto set_threshold = [&](int g) {
      group_.threshold[g] = filter_.certificate.threshold(group[g]->bounds, most, group[g]->reach);
    };
    for (int g = 0; g < count; ++g) {
      group_.set_row(g, group[g]->code, group[g]->coded);
      set_threshold(g);
    }
    for (int64_t p = last - 1; p >= first; --p) {
      const Packed::Panel& panel = packed.panel(p);
      const int64_t base = p * kPanel;
      pairs += count * std::min<int64_t>(kPanel, packed.size() - base);
      for (uint64_t any = group_.score(count, panel); any; any &= any - 1) {
        const int g = __builtin_ctzll(any);
        Row& row = *group[g];
        if (row.done) continue;
        collect(row, group_.mask[g], group_.scores + g * kPanel, panel, base, packed.size());
        if (row.suspects.empty()) continue;
        const double upper = filter_.certificate.squared(row.upper);
        if (upper < enough) {
          row.done = true;
          group_.threshold[g] = float(kInfinity);
          if (row.suspects.front().packed >= base && row.suspects.front().packed < base + kPanel &&
              upper < kFar * enough) {
            // A bound that will not be asked for soon. The row will meet this panel again.
            row.bound = upper;
            row.suspects.clear();
            row.unseen = row.unseen.without(base + kPanel, packed.size());
          } else {
            row.unseen = row.unseen.without(base, packed.size());
            leaving_.push_back(&row);
            pool_.prefetch(row.index);
          }
        } else {
          if (row.suspects.size() > kManySuspects) settle(row);
          set_threshold(g);
        }
      }
    }
  }
}

// Notes the pairs that passed, and lets the best of them tighten what may pass from now on.
void Sweep::collect(Row& row, uint32_t mask, const float* scores, const Packed::Panel& panel,
                    int64_t base, int64_t choices) {
  for (; mask; mask &= mask - 1) {
    const int column = __builtin_ctz(mask);
    if (base + column >= choices || !row.unseen.holds(base + column)) continue;
    const auto interval =
        filter_.certificate.interval(row.bounds, panel.bounds[column], scores[column]);
    if (interval.lower > row.reach) continue;
    row.suspects.push_back({interval.lower, base + column});
    row.upper = std::min(row.upper, interval.upper);
  }
  row.reach = std::min(row.reach, filter_.certificate.widen(row.upper));
}

// Decides a row's suspects, the nearest first.
void Sweep::settle(Row& row) {
  if (row.suspects.empty()) return;
  std::sort(row.suspects.begin(), row.suspects.end(),
            [](const Suspect& a, const Suspect& b) { return a.lower < b.lower; });
  kernels_.load_row(pool_, row.index, canonical_.get());
  for (const Suspect& suspect : row.suspects) {
    if (suspect.lower > row.reach) break;
    ++rechecks;
    const double squared = exact_(canonical_.get(), suspect.packed);
    if (squared >= row.bound) continue;
    row.bound = squared;
    row.reach = std::min(row.reach, filter_.certificate.reach(squared));
  }
  row.suspects.clear();
}

}  // namespace entroselect
