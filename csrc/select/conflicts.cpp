#include "select/conflicts.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <tuple>

#include "base/threads.h"
#include "base/timer.h"
#include "select/filter_pool.h"

namespace entroselect {

namespace {
constexpr int64_t kShared = 8;  // panels for which a row has one threshold

// Rows looked at together: all pairs of them are scored.
constexpr size_t kListed = 2048;

// Conflicts per row up to which listing them takes less time than micro-blocks.
constexpr size_t kMostConflicts = 4;

constexpr int64_t kWorthThreads = 8;  // groups of rows

bool first_is_farther(const Key& a, const Key& b) { return a.beats(b); }

}  // namespace

std::pair<Picks, double> pick_by_conflicts(std::vector<Key>& keys,
                                           const std::vector<Conflict>& conflicts, Key rival,
                                           int64_t limit, double floor, Quotas& quotas) {
  // Every row's conflicts, one row after another.
  std::vector<size_t> begin(keys.size() + 1);
  for (const Conflict& pair : conflicts)
    for (int32_t place : {pair.first, pair.second}) ++begin[size_t(place) + 1];
  for (size_t p = 1; p < begin.size(); ++p) begin[p] += begin[p - 1];
  std::vector<std::pair<int32_t, double>> others(2 * conflicts.size());
  std::vector<size_t> end(begin.begin(), begin.end() - 1);
  for (const Conflict& pair : conflicts) {
    others[end[size_t(pair.first)]++] = {pair.second, pair.squared};
    others[end[size_t(pair.second)]++] = {pair.first, pair.squared};
  }

  struct Turn {
    Key key;
    size_t place;
  };
  const auto later = [](const Turn& a, const Turn& b) { return b.key.beats(a.key); };
  std::vector<Turn> heap;
  for (size_t place = 0; place < keys.size(); ++place) heap.push_back({keys[place], place});
  std::make_heap(heap.begin(), heap.end(), later);
  Picks picks;
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Turn turn = heap.back();
    heap.pop_back();
    Key& key = keys[turn.place];
    if (!quotas.open(key.row)) continue;
    if (key.bound < turn.key.bound) {  // a pick has lowered it since
      if (!key.beats(rival)) continue;
      heap.push_back({key, turn.place});
      std::push_heap(heap.begin(), heap.end(), later);
      continue;
    }
    if (int64_t(picks.rows.size()) == limit || key.bound < floor) return {picks, key.bound};
    quotas.take(key.row);
    picks.rows.push_back(key.row);
    picks.squared.push_back(key.bound);
    key.bound = kPicked;
    for (size_t at = begin[turn.place]; at < begin[turn.place + 1]; ++at) {
      double& bound = keys[size_t(others[at].first)].bound;
      bound = std::min(bound, others[at].second);
    }
  }
  return {picks, -1};
}

namespace {

// Finds the conflicts of a group of rows with those before it; every thread has its own.
class ConflictSearch {
 public:
  ConflictSearch(const Frame& frame, const Kernels& kernels, const Rows& rows,
                 const std::vector<Key>& keys, const Panels& panels)
      : frame_(frame),
        kernels_(kernels),
        rows_(rows),
        keys_(keys),
        panels_(panels),
        group_(frame, kernels),
        canonical_(padded(frame.d)) {}

  void begin(int64_t base) {
    base_ = base;
    count_ = int(std::min<int64_t>(kGroup, int64_t(keys_.size()) - base));
    suspects_.clear();
  }

  void set_row(int g, const uint32_t* code, const Coded& coded) {
    group_.set_row(g, code, coded);
    bounds_[g] = {coded.norm2, std::sqrt(coded.norm2), coded.residual};
    reach_[g] = frame_.certificate.reach(key(g).bound);
  }

  // False if there are too many.
  bool run(std::vector<Conflict>& found) {
    const int64_t end = (base_ + count_ - 1 + kPanel - 1) / kPanel;
    for (int64_t p = 0; p < end; ++p) {
      if (p % kShared == 0) set_thresholds(panels_.most(p, std::min(end, p + kShared)));
      collect(p);
      if (suspects_.size() > 4 * kMostConflicts * kGroup) return false;
    }
    recheck(found);
    return found.size() <= kMostConflicts * kGroup;
  }

  int count() const { return count_; }
  const Key& key(int g) const { return keys_[size_t(base_ + g)]; }

  int64_t pairs = 0, rechecks = 0;

 private:
  void set_thresholds(const ColumnBounds& most) {
    for (int g = 0; g < count_; ++g)
      group_.threshold[g] = key(g).bound > 0
                                ? frame_.certificate.threshold(bounds_[g], most, reach_[g])
                                : std::numeric_limits<float>::infinity();  // nothing is below 0
  }

  void collect(int64_t p) {
    const Panels::Panel& panel = panels_.panel(p);
    pairs += count_ * kPanel;
    for (uint64_t any = group_.score(count_, panel); any; any &= any - 1) {
      const int g = __builtin_ctzll(any);
      for (uint32_t mask = group_.mask[g]; mask; mask &= mask - 1) {
        const int column = __builtin_ctz(mask);
        const int64_t place = p * kPanel + column;
        if (place >= base_ + g) break;
        const auto interval = frame_.certificate.interval(bounds_[g], panel.bounds[column],
                                                          group_.scores[g * kPanel + column]);
        if (interval.lower <= reach_[g]) suspects_.push_back({g, int32_t(place)});
      }
    }
  }

  void recheck(std::vector<Conflict>& found) {
    std::sort(suspects_.begin(), suspects_.end());
    rechecks += int64_t(suspects_.size());
    int loaded = -1;
    for (const auto& [g, place] : suspects_) {
      if (g != loaded) kernels_.load_row(rows_, key(g).row, canonical_.get());
      loaded = g;
      const double squared =
          kernels_.distance_to_row(canonical_.get(), rows_, keys_[size_t(place)].row);
      if (squared < key(g).bound) found.push_back({place, int32_t(base_ + g), squared});
    }
  }

  const Frame& frame_;
  const Kernels& kernels_;
  const Rows& rows_;
  const std::vector<Key>& keys_;
  const Panels& panels_;
  int64_t base_ = 0;
  int count_ = 0;
  RowBounds bounds_[kGroup];
  double reach_[kGroup];
  std::vector<std::pair<int, int32_t>> suspects_;  // (row of the group, place)
  Group group_;
  Buffer<double> canonical_;
};

}  // namespace

// The pairs that conflict; nothing if they are too many. Of two rows the later one has the smaller
// bound, so a row is compared with those before it, up to its own.
std::optional<std::vector<Conflict>> FilterPool::conflicts_of(const std::vector<Key>& keys) {
  const int64_t total = int64_t(keys.size()), groups = (total + kGroup - 1) / kGroup;
  Panels panels(frame_->words, frame_->form == Form::bytes ? kernels_.panel_offset : 0);
  panels.resize(total);
  std::vector<uint32_t> code(size_t(frame_->words));
  for (int64_t place = 0; place < total; ++place) {
    const int64_t row = keys[size_t(place)].row;
    if (frame_->columns_are_rows)
      panels.put(place, &codes_[row * frame_->words], coded_[row]);
    else
      panels.put(place, code.data(), coder_->column(rows_, row, code.data()));
  }

  const int threads = groups < kWorthThreads ? 1 : threads_;
  std::vector<std::unique_ptr<ConflictSearch>> searches;
  for (int w = 0; w < threads; ++w)
    searches.push_back(std::make_unique<ConflictSearch>(*frame_, kernels_, rows_, keys, panels));
  std::vector<std::vector<Conflict>> parts(static_cast<size_t>(groups));
  std::atomic<bool> dense{false};
  parallel_for(
      threads, groups,
      [&](int64_t item, int worker) {
        if (dense) return;
        ConflictSearch& search = *searches[size_t(worker)];
        search.begin((groups - 1 - item) * kGroup);  // the last has the most to do
        for (int g = 0; g < search.count(); ++g) {
          const int64_t row = search.key(g).row;
          search.set_row(g, &codes_[row * frame_->words], coded_[row]);
        }
        if (!search.run(parts[size_t(item)])) dense = true;
      },
      poll_);
  for (const auto& search : searches) {
    profile_.pairs += search->pairs;
    profile_.rechecks += search->rechecks;
  }
  if (dense) return std::nullopt;
  std::vector<Conflict> every;
  for (const auto& part : parts) every.insert(every.end(), part.begin(), part.end());
  return every;
}

bool FilterPool::settle_by_conflicts(std::vector<Key>& heap, Key rival, int64_t limit, double floor,
                                     Picks& picks, double& next) {
  std::vector<Key> keys(std::move(heap));
  const size_t size = std::min(keys.size(), kListed);
  if (size < keys.size())
    std::nth_element(keys.begin(), keys.begin() + int64_t(size), keys.end(), first_is_farther);
  const Key inner = size < keys.size() ? keys[size] : rival;
  heap.assign(keys.begin() + int64_t(size), keys.end());
  std::vector<int64_t> rows;
  for (size_t j = 0; j < size; ++j) rows.push_back(keys[j].row);
  refresh(rows, inner.bound);

  Timer timer(profile_.settle_seconds);
  keys.clear();
  for (int64_t i : rows)
    if (Key{bounds_[i], i}.beats(inner)) keys.push_back({bounds_[i], i});
  std::sort(keys.begin(), keys.end(), first_is_farther);
  const auto conflicts = conflicts_of(keys);
  if (conflicts) {
    Picks found;
    std::tie(found, next) = pick_by_conflicts(keys, *conflicts, inner,
                                              limit - int64_t(picks.rows.size()), floor, quotas_);
    picks.rows.insert(picks.rows.end(), found.rows.begin(), found.rows.end());
    picks.squared.insert(picks.squared.end(), found.squared.begin(), found.squared.end());
    add_picks(found.rows.data(), int64_t(found.rows.size()));
    for (const Key& key : keys) {
      if (key.bound == kPicked) continue;
      bounds_[key.row] = key.bound;
      unmet_[key.row] = unmet_[key.row].without(0, count());
    }
  }
  for (int64_t i : rows)
    if (bounds_[i] != kPicked && quotas_.open(i) && Key{bounds_[i], i}.beats(rival))
      heap.push_back({bounds_[i], i});
  return conflicts.has_value();
}

}  // namespace entroselect
