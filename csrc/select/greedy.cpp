// Farthest-first: the frontier, and settling picks among its rows.

#include <algorithm>
#include <functional>
#include <tuple>

#include "base/threads.h"
#include "base/timer.h"
#include "select/filter_pool.h"

namespace entroselect {

namespace {
constexpr int64_t kLeastSample = 256, kMostSample = 2048, kPerSampled = 4;  // one row in four
constexpr size_t kFew = 16;       // rows that a micro-block settles as fast
constexpr int64_t kPart = 16384;  // rows that one thread looks through at a time

// Orders of keys. Objects, so that heaps have them inlined.
constexpr auto first_is_farther = [](const Key& a, const Key& b) { return a.beats(b); };
constexpr auto first_is_nearer = [](const Key& a, const Key& b) {
  return b.beats(a);
};  // for heaps

// A bound that about `size` rows reach, from a sample.
double cut_of(const double* bounds, int64_t n, int64_t size) {
  const int64_t count = std::min(n, std::clamp(n / kPerSampled, kLeastSample, kMostSample));
  std::vector<double> sample(static_cast<size_t>(count));
  for (int64_t s = 0; s < count; ++s) sample[size_t(s)] = bounds[s * n / count];
  const auto rank = sample.begin() + std::min(count - 1, size * count / n);
  std::nth_element(sample.begin(), rank, sample.end(), std::greater<double>());
  return std::max(*rank, 0.0);
}

// Of kPart rows: those at the cut or above, and the largest bound below it.
struct Part {
  std::vector<uint16_t> rows;
  double below = kPicked;
};

Part part_of(const double* bounds, int64_t count, double cut) {
  uint16_t rows[kPart];
  double below = kPicked;
  int64_t found = 0;
  for (int64_t i = 0; i < count; ++i) {  // without branches, which could not be predicted
    const double bound = bounds[i];
    rows[found] = uint16_t(i);
    found += bound >= cut;
    below = std::max(below, bound >= cut ? kPicked : bound);
  }
  return {{rows, rows + found}, below};
}

template <class Body>
void for_each(const std::vector<Part>& parts, const double* bounds, const Body& body) {
  for (size_t p = 0; p < parts.size(); ++p)
    for (const uint16_t at : parts[p].rows) {
      const int64_t row = int64_t(p) * kPart + at;
      body(Key{bounds[row], row});
    }
}

// The last of the `size` rows that come first among those listed, and the one after it. Holds at
// most four times as many.
std::pair<Key, Key> split(const std::vector<Part>& parts, const double* bounds, int64_t size) {
  std::vector<Key> keys;
  const auto keep_first = [&] {
    std::nth_element(keys.begin(), keys.begin() + size, keys.end(), first_is_farther);
    keys.resize(size_t(size) + 1);
  };
  keys.reserve(size_t(4 * size) + 1);
  for_each(parts, bounds, [&](const Key& key) {
    keys.push_back(key);
    if (int64_t(keys.size()) > 4 * size) keep_first();
  });
  keep_first();
  const Key next = keys.back();
  keys.pop_back();
  return {*std::max_element(keys.begin(), keys.end(), first_is_farther), next};
}
}  // namespace

std::pair<std::vector<int64_t>, Key> frontier_of(const double* bounds, int64_t n, int64_t size,
                                                 int threads, const std::function<void()>& poll) {
  // One pass lists the rows at the cut or above. A list takes two bytes per row at most, however
  // many bounds are equal.
  const double cut = cut_of(bounds, n, size);
  std::vector<Part> parts(size_t((n + kPart - 1) / kPart));
  parallel_for(
      parts.size() < 4 ? 1 : threads, int64_t(parts.size()),
      [&](int64_t item, int) {
        parts[size_t(item)] =
            part_of(bounds + item * kPart, std::min(n - item * kPart, kPart), cut);
      },
      poll);
  int64_t found = 0;
  double below = kPicked;
  for (const Part& part : parts) {
    found += int64_t(part.rows.size());
    below = std::max(below, part.below);
  }
  Key rival = {kPicked, -1};
  for (size_t p = 0; p < parts.size() && below > kPicked && rival.row < 0; ++p)
    if (parts[p].below == below)
      rival = {below, std::find(bounds + int64_t(p) * kPart, bounds + n, below) - bounds};

  Key last = {cut, n};  // of the rows taken
  if (found > 2 * size) std::tie(last, rival) = split(parts, bounds, size);
  std::vector<int64_t> rows;
  rows.reserve(size_t(std::min(found, 2 * size)));
  for_each(parts, bounds, [&](const Key& key) {
    if (!last.beats(key)) rows.push_back(key.row);
  });
  return {std::move(rows), rival};
}

std::pair<std::vector<int64_t>, Key> FilterPool::frontier(int64_t size) const {
  Timer timer(profile_.frontier_seconds);
  if (!weights_) return frontier_of(bounds_.get(), n(), size, threads_, poll_);
  Buffer<double> keys(n());
  parallel_for(
      n() < 4 * kPart ? 1 : threads_, (n() + kPart - 1) / kPart,
      [&](int64_t item, int) {
        for (int64_t i = item * kPart; i < std::min(n(), (item + 1) * kPart); ++i)
          keys[i] = weights_.key(i, bounds_[i]);
      },
      poll_);
  return frontier_of(keys.get(), n(), size, threads_, poll_);
}

std::pair<Picks, double> FilterPool::settle(const std::vector<int64_t>& rows, Key rival,
                                            int64_t limit, double floor) {
  Picks picks;
  std::vector<Key> heap;
  for (int64_t i : rows)
    if (quotas_.open(i) && key(i).beats(rival)) heap.push_back(key(i));

  double next = -1;
  // A block of a larger pool, up to date; conflicts are of distances, not of weighted ones.
  const bool whole = count() == 0 && !weights_;
  while (whole && heap.size() > kFew && settle_by_conflicts(heap, rival, limit, floor, picks, next))
    if (next >= 0) return {picks, next};
  std::make_heap(heap.begin(), heap.end(), first_is_nearer);
  for (;;) {
    // The block's best rows: those with bounds that beat the rival's.
    micro_.rows.clear();
    while (!heap.empty() && micro_.rows.size() < kMicro) {
      if (quotas_.open(heap.front().row)) micro_.rows.push_back(heap.front().row);
      std::pop_heap(heap.begin(), heap.end(), first_is_nearer);
      heap.pop_back();
    }
    if (micro_.rows.empty()) return {picks, -1};
    const Key inner = heap.empty() ? rival : heap.front();
    refresh(micro_.rows, inner.bound);

    Timer timer(profile_.settle_seconds);
    micro_.active.assign(micro_.rows.size(), false);
    for (size_t j = 0; j < micro_.rows.size(); ++j)
      micro_.active[j] = key(micro_.rows[j]).beats(inner);
    load(micro_);
    for (;;) {
      Key best = inner;
      size_t place = micro_.rows.size();
      for (size_t j = 0; j < micro_.rows.size(); ++j) {
        const Key own = key(micro_.rows[j]);
        if (micro_.active[j] && own.beats(best) && quotas_.open(own.row)) best = own, place = j;
      }
      if (place == micro_.rows.size()) break;  // no row here is certain to come next
      if (int64_t(picks.rows.size()) == limit || best.bound < floor) {
        next = best.bound;
        break;
      }
      quotas_.take(best.row);
      picks.rows.push_back(best.row);
      picks.squared.push_back(bounds_[best.row]);
      pick_in(micro_, place);
    }
    keep_current(micro_);
    if (next >= 0) return {picks, next};
    for (int64_t i : micro_.rows) {
      if (bounds_[i] < 0 || !quotas_.open(i) || !key(i).beats(rival))
        continue;  // picked, of a full group, or no better than the rival
      heap.push_back(key(i));
      std::push_heap(heap.begin(), heap.end(), first_is_nearer);
    }
  }
}

}  // namespace entroselect
