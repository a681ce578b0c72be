#include "bits/bit_pool.h"

#include <algorithm>
#include <limits>

#include "base/threads.h"
#include "base/timer.h"
#include "select/filter_pool.h"

namespace entroselect {

namespace {
constexpr int64_t kTogether = 32;   // rows compared with a panel while it is in the cache
constexpr int64_t kAhead = 4;       // rows that are fetched from memory before they are read
constexpr int64_t kPrepare = 256;   // rows per item of work when all rows are read
constexpr int64_t kPolled = 16384;  // rows between polls for Ctrl-C in serial loops
constexpr int64_t kWorthThreads = 1 << 15;  // words compared, some 5 us
}  // namespace

BitPool::BitPool(const Rows& rows, BitMetric metric, const Kernels& kernels, int threads,
                 std::function<void()> poll)
    : rows_(rows),
      kernels_(kernels),
      threads_(threads),
      poll_(std::move(poll)),
      words_(bit_words(rows.d)),
      bits_(rows.n),
      bounds_(rows.n),
      met_(rows.n),
      available_(rows.n),
      picks_(rows.d, metric, kernels),
      workers_(size_t(threads)) {
  for (Worker& worker : workers_) worker.words = Buffer<BitWord>(kTogether * words_);
  std::fill(bounds_.get(), bounds_.get() + rows.n, std::numeric_limits<double>::infinity());
  std::fill(met_.get(), met_.get() + rows.n, 0);
  parallel_for(
      threads_, (n() + kPrepare - 1) / kPrepare,
      [&](int64_t item, int) {
        for (int64_t i = item * kPrepare; i < std::min(n(), (item + 1) * kPrepare); ++i)
          bits_[i] = int32_t(count_bits(rows_, i));
      },
      poll_);
}

void BitPool::add(const Rows& rows, int64_t i, int64_t bits) {
  picks_.resize(count() + 1);
  picks_.put(count() - 1, load_bits(rows, i, bits, workers_[0].words.get()));
  if (count() % kPolled == 0) poll_();
}

void BitPool::add_picks(const int64_t* rows, int64_t size) {
  for (int64_t j = 0; j < size; ++j) add(rows_, rows[j], bits_[rows[j]]);
  exclude(rows, size);
}

void BitPool::add_vectors(const Rows& vectors) {
  for (int64_t i = 0; i < vectors.n; ++i) add(vectors, i, count_bits(vectors, i));
}

void BitPool::exclude(const int64_t* rows, int64_t size) {
  for (int64_t j = 0; j < size; ++j) bounds_[rows[j]] = kPicked;
  available_ -= size;
}

void BitPool::put_back(const int64_t* rows, const double* bounds, int64_t size) {
  for (int64_t j = 0; j < size; ++j) bounds_[rows[j]] = bounds[j];
  available_ += size;
}

int64_t BitPool::met(int64_t row) const { return std::min<int64_t>(met_[row], count()); }

void BitPool::restart(const double* bounds, const int64_t* met) {
  picks_.resize(0);
  available_ = 0;
  for (int64_t i = 0; i < n(); ++i) {
    bounds_[i] = bounds[i];
    met_[i] = int32_t(met[i]);
    available_ += bounds[i] != kPicked;
  }
}

void BitPool::refresh_all(double enough) {
  std::vector<int64_t> rows(static_cast<size_t>(n()));
  for (int64_t i = 0; i < n(); ++i) rows[size_t(i)] = i;
  refresh(std::move(rows), enough);
}

void BitPool::refresh(std::vector<int64_t> rows, double enough) {
  Timer timer(profile_.refresh_seconds);
  int64_t work = 0;
  size_t kept = 0;
  for (const int64_t i : rows) {
    if (!stale(i, enough)) continue;
    work += (count() - met_[i]) * words_;
    rows[kept++] = i;
  }
  rows.resize(kept);
  // Rows that have met the same picks go together.
  std::stable_sort(rows.begin(), rows.end(),
                   [&](int64_t a, int64_t b) { return met_[a] < met_[b]; });
  const int64_t total = int64_t(kept), threads = work < kWorthThreads ? 1 : threads_;
  const int64_t size = std::clamp<int64_t>((total + threads - 1) / threads, 1, kTogether);
  parallel_for(
      int(threads), (total + size - 1) / size,
      [&](int64_t item, int worker) {
        const int64_t first = item * size;
        compare(&rows[size_t(first)], std::min(size, total - first), enough,
                workers_[size_t(worker)]);
      },
      poll_);
}

// Compares up to kTogether rows, ordered by what they have met, with their unmet picks, the oldest
// first, each until its bound is below `enough`. The picks of a panel that a row has met already
// lower nothing.
void BitPool::compare(const int64_t* rows, int64_t size, double enough, Worker& worker) {
  BitRow loaded[kTogether];
  double reach[kTogether];
  int64_t waiting[kTogether], left = 0;  // places of the rows that are not done
  for (int64_t g = 0; g < std::min(size, kAhead); ++g) rows_.prefetch(rows[g]);
  for (int64_t g = 0; g < size; ++g) {
    if (g + kAhead < size) rows_.prefetch(rows[g + kAhead]);
    reach[g] = bit_reach(bounds_[rows[g]]);
    loaded[g] = load_bits(rows_, rows[g], bits_[rows[g]], &worker.words[g * words_]);
    waiting[left++] = g;
  }
  for (int64_t p = met_[rows[0]] / kBitPanel; p < picks_.size() && left > 0; ++p) {
    const int64_t end = std::min((p + 1) * kBitPanel, count());
    int64_t kept = 0;
    for (int64_t at = 0; at < left; ++at) {
      const int64_t g = waiting[at], i = rows[g];
      if (met_[i] < end) {
        double squared[kBitPanel];
        const double least = picks_.distances(loaded[g], p, reach[g], squared);
        if (least < bounds_[i]) bounds_[i] = least, reach[g] = bit_reach(least);
        worker.pairs += end - met_[i];
        met_[i] = int32_t(end);
      }
      if (bounds_[i] >= enough && bounds_[i] > 0) waiting[kept++] = g;
    }
    left = kept;
  }
  worker.refreshed += size;
}

double BitPool::widest() const {
  double widest = 0;
  for (int64_t i = 0; i < n(); ++i) widest = std::max(widest, bounds_[i]);
  return widest;
}

std::pair<std::vector<int64_t>, Key> BitPool::frontier(int64_t size) const {
  Timer timer(profile_.frontier_seconds);
  return frontier_of(bounds_.get(), n(), size, threads_, poll_);
}

// The best row by its bound comes next if its bound is up to date; otherwise it is compared with
// its unmet picks until it is, or another row is better.
std::pair<Picks, double> BitPool::settle(const std::vector<int64_t>& rows, Key rival, int64_t limit,
                                         double floor) {
  Timer timer(profile_.settle_seconds);
  const auto nearer = [](const Key& a, const Key& b) { return b.beats(a); };
  Picks picks;
  std::vector<Key> heap;
  for (const int64_t i : rows)
    if (const Key key = {bounds_[i], i}; key.beats(rival)) heap.push_back(key);
  std::make_heap(heap.begin(), heap.end(), nearer);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), nearer);
    const int64_t i = heap.back().row;
    heap.pop_back();
    if (!quotas_.open(i)) continue;
    if (stale(i, 0)) {
      const double next = heap.empty() ? rival.bound : std::max(rival.bound, heap[0].bound);
      compare(&i, 1, next, workers_[0]);
      if (const Key key = {bounds_[i], i}; key.beats(rival)) {
        heap.push_back(key);
        std::push_heap(heap.begin(), heap.end(), nearer);
      }
      continue;
    }
    if (int64_t(picks.rows.size()) == limit || bounds_[i] < floor) return {picks, bounds_[i]};
    quotas_.take(i);
    picks.rows.push_back(i);
    picks.squared.push_back(bounds_[i]);
    add_picks(&i, 1);
  }
  return {picks, -1};
}

std::pair<std::vector<int64_t>, int64_t> BitPool::next_in_order(const int64_t* order,
                                                                int64_t length, int64_t start,
                                                                int64_t size, double floor) const {
  Timer timer(profile_.frontier_seconds);
  return rows_in_order(order, length, start, size, floor,
                       [&](int64_t row) { return bounds_[row]; });
}

Picks BitPool::settle_in_order(const std::vector<int64_t>& rows, int64_t limit, double floor) {
  Timer timer(profile_.settle_seconds);
  Picks picks;
  for (const int64_t i : rows) {
    if (int64_t(picks.rows.size()) == limit) break;
    if (bounds_[i] == kPicked || !quotas_.open(i)) continue;
    if (stale(i, floor)) compare(&i, 1, floor, workers_[0]);
    if (bounds_[i] < floor) continue;
    quotas_.take(i);
    picks.rows.push_back(i);
    picks.squared.push_back(bounds_[i]);
    add_picks(&i, 1);
  }
  return picks;
}

Profile BitPool::profile() const {
  Profile result = profile_;
  for (const Worker& worker : workers_) {
    result.pairs += worker.pairs;
    result.refreshed += worker.refreshed;
  }
  return result;
}

}  // namespace entroselect
