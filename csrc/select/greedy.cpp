// Farthest-first: the frontier, and settling picks among its rows.

#include <algorithm>

#include "base/threads.h"
#include "base/timer.h"
#include "select/filter_pool.h"

namespace entroselect {

namespace {
constexpr int64_t kSample = 2048;
constexpr size_t kFew = 16;      // rows that a micro-block settles as fast
constexpr int64_t kPart = 8192;  // rows that one thread looks through at a time

bool first_is_farther(const Key& a, const Key& b) { return a.beats(b); }
bool first_is_nearer(const Key& a, const Key& b) { return b.beats(a); }  // for heaps: best on top
}  // namespace

std::pair<std::vector<int64_t>, Key> frontier_of(const double* bounds, int64_t n, int64_t size,
                                                 int threads, const std::function<void()>& poll) {
  // A cut that about `size` rows reach, from a sample; then one pass collects them.
  std::vector<double> sample;
  for (int64_t s = 0; s < std::min(n, kSample); ++s)
    sample.push_back(bounds[s * n / std::min(n, kSample)]);
  const size_t rank = std::min(sample.size() - 1, size_t(size * int64_t(sample.size()) / n));
  std::nth_element(sample.begin(), sample.begin() + int64_t(rank), sample.end(),
                   std::greater<double>());
  const double cut = std::max(sample[rank], 0.0);

  struct Part {
    std::vector<Key> keys;
    Key rival = {kPicked, -1};
  };
  std::vector<Part> parts(size_t((n + kPart - 1) / kPart));
  parallel_for(
      parts.size() < 4 ? 1 : threads, int64_t(parts.size()),
      [&](int64_t item, int) {
        Part part;
        for (int64_t i = item * kPart; i < std::min(n, (item + 1) * kPart); ++i) {
          if (bounds[i] >= cut)
            part.keys.push_back({bounds[i], i});
          else if (bounds[i] > part.rival.bound)
            part.rival = {bounds[i], i};
        }
        parts[size_t(item)] = std::move(part);
      },
      poll);
  std::vector<Key> keys;
  Key rival = {kPicked, -1};
  for (const Part& part : parts) {
    keys.insert(keys.end(), part.keys.begin(), part.keys.end());
    if (part.rival.bound > rival.bound) rival = part.rival;
  }
  if (int64_t(keys.size()) > 2 * size) {  // many equal bounds
    std::nth_element(keys.begin(), keys.begin() + size, keys.end(), first_is_farther);
    rival = keys[size_t(size)];
    keys.resize(size_t(size));
  }
  std::vector<int64_t> rows;
  for (const Key& key : keys) rows.push_back(key.row);
  return {rows, rival};
}

std::pair<std::vector<int64_t>, Key> FilterPool::frontier(int64_t size) const {
  Timer timer(profile_.frontier_seconds);
  return frontier_of(bounds_.get(), n(), size, threads_, poll_);
}

std::pair<Picks, double> FilterPool::settle(const std::vector<int64_t>& rows, Key rival,
                                            int64_t limit, double floor) {
  Picks picks;
  std::vector<Key> heap;
  for (int64_t i : rows)
    if (Key{bounds_[i], i}.beats(rival)) heap.push_back({bounds_[i], i});

  double next = -1;
  while (heap.size() > kFew && settle_by_conflicts(heap, rival, limit, floor, picks, next))
    if (next >= 0) return {picks, next};
  std::make_heap(heap.begin(), heap.end(), first_is_nearer);
  for (;;) {
    // The block's best rows: those with bounds that beat the rival's.
    micro_.rows.clear();
    while (!heap.empty() && micro_.rows.size() < kMicro) {
      micro_.rows.push_back(heap.front().row);
      std::pop_heap(heap.begin(), heap.end(), first_is_nearer);
      heap.pop_back();
    }
    if (micro_.rows.empty()) return {picks, -1};
    const Key inner = heap.empty() ? rival : heap.front();
    refresh(micro_.rows, inner.bound);

    Timer timer(profile_.settle_seconds);
    micro_.active.assign(micro_.rows.size(), false);
    for (size_t j = 0; j < micro_.rows.size(); ++j)
      micro_.active[j] = Key{bounds_[micro_.rows[j]], micro_.rows[j]}.beats(inner);
    load(micro_);
    for (;;) {
      Key best = inner;
      size_t place = micro_.rows.size();
      for (size_t j = 0; j < micro_.rows.size(); ++j) {
        const Key key = {bounds_[micro_.rows[j]], micro_.rows[j]};
        if (micro_.active[j] && key.beats(best)) best = key, place = j;
      }
      if (place == micro_.rows.size()) break;  // no row here is certain to come next
      if (int64_t(picks.rows.size()) == limit || best.bound < floor) {
        next = best.bound;
        break;
      }
      picks.rows.push_back(best.row);
      picks.squared.push_back(best.bound);
      pick_in(micro_, place);
    }
    keep_current(micro_);
    if (next >= 0) return {picks, next};
    for (int64_t i : micro_.rows) {
      if (bounds_[i] < 0 || !Key{bounds_[i], i}.beats(rival))
        continue;  // picked, or no better than the rival
      heap.push_back({bounds_[i], i});
      std::push_heap(heap.begin(), heap.end(), first_is_nearer);
    }
  }
}

}  // namespace entroselect
