#include "select/sweep.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace entroselect {

namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Suspects of one row before they are rechecked early; bounds the memory of pools full of ties.
constexpr size_t kManySuspects = 1024;

// Panels that share one set of thresholds; rows that are done leave their group after that many.
constexpr int64_t kShared = 4;

// A bound may be rough if it is below this share of what is enough (squared).
constexpr double kFar = 0.9;

// Suspects that there is room for when a row has its first.
constexpr size_t kFewSuspects = 8;

// How far ahead rows are fetched from memory.
constexpr size_t kAhead = 2;
}  // namespace

Unmet Unmet::without(int64_t from, int64_t total) const {
  const auto at = [](int64_t pick) { return int32_t(pick); };
  if (from <= next) return {first, std::max(first, std::min(last, at(from))), at(total)};
  if (last <= first) return {next, at(from), at(total)};
  if (total - from < next - last) return *this;
  return {first, at(from), at(total)};
}

Sweep::Sweep(const Frame& frame, const Kernels& kernels, const PickedRows* picked, int64_t rows)
    : frame_(frame),
      kernels_(kernels),
      picked_(picked),
      rows_(size_t(rows)),
      group_(frame, kernels),
      canonical_(padded(frame.d)) {}

void Sweep::add(int64_t i, const uint32_t* code, const Coded& coded, double bound, double enough,
                Unmet unmet, float toward) {
  Row& row = rows_[size_t(size_++)];
  row.index = i;
  row.code = code;
  row.coded = coded;
  row.bounds = {coded.norm2, std::sqrt(coded.norm2), coded.residual};
  row.toward = toward;
  row.unmet = row.here = unmet;
  row.done = false;
  row.bound = bound;
  row.enough = enough;
  row.reach = frame_.certificate.reach(bound);
  row.upper = kInfinity;
  row.suspects.clear();
}

void Sweep::run(const Panels& panels) {
  begin();
  visitors_ = waiting_;
  compare(panels, nullptr);
  finish(panels.rows());
}

void Sweep::run(const Cells& cells, int64_t home, int64_t total) {
  begin();
  double farthest = kInfinity;
  for (int64_t step = 0; step < cells.size() && !waiting_.empty(); ++step) {
    const int64_t to = step == 0 ? home : step <= home ? step - 1 : step;
    if (cells.gap(home, to) > farthest) continue;
    const std::vector<int32_t>& held = cells.picks(to);
    visitors_.clear();
    for (Row* row : waiting_) {
      if (cells.gap(home, to) - double(row->toward) > row->reach) continue;
      const auto from = std::lower_bound(held.begin(), held.end(), row->unmet.next);
      row->here = {0, 0, int32_t(from - held.begin())};
      if (from != held.end()) visitors_.push_back(row);
    }
    compare(cells.panels(to), held.data());
    if (to == home) {
      farthest = 0;
      for (const Row* row : waiting_)
        farthest = std::max(farthest, (row->reach + double(row->toward)) * (1 + 0x1p-48));
    }
  }
  finish(total);
}

void Sweep::begin() {
  refreshed += size_;
  waiting_.clear();
  for (int64_t g = 0; g < size_; ++g) waiting_.push_back(&rows_[size_t(g)]);
}

// Rechecks the rows that are left; they have now met every pick, or skipped it with its cell.
void Sweep::finish(int64_t total) {
  for (size_t j = 0; j < waiting_.size(); ++j) {
    if (picked_ && j + kAhead < waiting_.size())
      picked_->pool.prefetch(waiting_[j + kAhead]->index);
    recheck(*waiting_[j]);
    waiting_[j]->unmet = waiting_[j]->unmet.without(0, total);
  }
}

// Compares the visitors with a list of picks, the newest first. `picks`: the picks' numbers by
// place in the list; null: the places themselves.
void Sweep::compare(const Panels& panels, const int32_t* picks) {
  const auto leave = [](std::vector<Row*>& rows) {
    rows.erase(std::remove_if(rows.begin(), rows.end(), [](const Row* row) { return row->done; }),
               rows.end());
  };
  int64_t end = panels.rows(), shared = 1;
  for (;;) {
    int64_t newest = 0, oldest = end;
    for (const Row* row : visitors_) {
      newest = std::max(newest, row->here.newest(end));
      oldest = std::min(oldest, row->here.oldest());
    }
    if (newest == 0) break;
    const int64_t last = (newest + kPanel - 1) / kPanel;
    const int64_t first = std::max(oldest / kPanel, last - shared);
    members_.clear();
    for (Row* row : visitors_)
      if (row->here.newest(std::min(end, last * kPanel)) > first * kPanel) members_.push_back(row);
    scan_panels(panels, picks, first, last);
    for (Row* row : leaving_) recheck(*row);
    leave(visitors_);
    end = first * kPanel;
    shared = std::min(2 * shared, kShared);
  }
  leave(waiting_);
}

// Scores the members against panels [first, last), the newest first.
void Sweep::scan_panels(const Panels& panels, const int32_t* picks, int64_t first, int64_t last) {
  leaving_.clear();
  const ColumnBounds most = panels.most(first, last);
  for (size_t begin = 0; begin < members_.size(); begin += kGroup) {
    Row* const* group = &members_[begin];
    const int count = int(std::min<size_t>(kGroup, members_.size() - begin));
    const auto set_threshold = [&](int g) {
      group_.threshold[g] = frame_.certificate.threshold(group[g]->bounds, most, group[g]->reach);
    };
    for (int g = 0; g < count; ++g) {
      group_.set_row(g, group[g]->code, group[g]->coded);
      set_threshold(g);
    }
    for (int64_t p = last - 1; p >= first; --p) {
      pairs += count * std::min<int64_t>(kPanel, panels.rows() - p * kPanel);
      for (uint64_t any = group_.score(count, panels.panel(p)); any; any &= any - 1) {
        const int g = __builtin_ctzll(any);
        Row& row = *group[g];
        if (row.done) continue;
        const bool first_suspects = row.suspects.empty();
        collect(row, g, panels, picks, p);
        if (row.suspects.empty()) continue;
        const double upper = frame_.certificate.squared(row.upper);
        if (upper < row.enough) {
          row.done = true;
          group_.threshold[g] = float(kInfinity);
          const bool rough = first_suspects && upper < kFar * row.enough;
          if (!picks) row.unmet = row.unmet.without((rough ? p + 1 : p) * kPanel, panels.rows());
          if (rough) {  // the panel counts as unmet and is scored again
            row.bound = std::min(row.bound, upper);
            row.suspects.clear();
          } else {
            leaving_.push_back(&row);
            if (picked_) picked_->pool.prefetch(row.index);
          }
        } else {
          if (row.suspects.size() > kManySuspects) recheck(row);
          set_threshold(g);
        }
      }
    }
  }
}

// Stores the pairs of panel p that passed as suspects; the best of them lowers the row's reach.
void Sweep::collect(Row& row, int g, const Panels& panels, const int32_t* picks, int64_t p) {
  const Panels::Panel& panel = panels.panel(p);
  for (uint32_t mask = group_.mask[g]; mask; mask &= mask - 1) {
    const int column = __builtin_ctz(mask);
    const int64_t place = p * kPanel + column;
    if (place >= panels.rows() || !row.here.holds(place)) continue;
    const auto interval = frame_.certificate.interval(row.bounds, panel.bounds[column],
                                                      group_.scores[g * kPanel + column]);
    if (interval.lower > row.reach) continue;
    if (row.suspects.capacity() == 0) row.suspects.reserve(kFewSuspects);
    row.suspects.push_back({interval.lower, picks ? picks[place] : place});
    row.upper = std::min(row.upper, interval.upper);
  }
  row.reach = std::min(row.reach, frame_.certificate.widen(row.upper));
}

// Decides a row's suspects by exact distances, the nearest first.
void Sweep::recheck(Row& row) {
  if (row.suspects.empty()) return;
  if (!picked_) {
    row.bound = std::min(row.bound, frame_.certificate.squared(row.upper));
    row.suspects.clear();
    return;
  }
  std::sort(row.suspects.begin(), row.suspects.end(),
            [](const Suspect& a, const Suspect& b) { return a.lower < b.lower; });
  kernels_.load_row(picked_->pool, row.index, canonical_.get());
  for (const Suspect& suspect : row.suspects) {
    if (suspect.lower > row.reach) break;
    ++rechecks;
    const double squared = picked_->distance(kernels_, canonical_.get(), suspect.other);
    if (squared >= row.bound) continue;
    row.bound = squared;
    row.reach = std::min(row.reach, frame_.certificate.reach(squared));
  }
  row.suspects.clear();
}

}  // namespace entroselect
