#include "pool.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "threads.h"
#include "timer.h"

namespace entroselect {

namespace {
constexpr int64_t kPrepare = 256;      // rows per item of work when all rows are read
constexpr int64_t kPolled = 16384;     // rows between looks for Ctrl-C in serial loops
constexpr double kWorthThreads = 1e6;  // products, some 5 us
constexpr double kPerPair = 16;        // cost of a pair beside its columns, in products
}  // namespace

Pool::Pool(const Rows& rows, const Kernels& kernels, int threads, std::function<void()> poll)
    : rows_(rows),
      kernels_(kernels),
      threads_(threads),
      poll_(std::move(poll)),
      filter_(rows, kernels),
      rounded_(rows.n * 2 * filter_.pairs),
      norm2_(rows.n),
      residual_(rows.n),
      bounds_(rows.n),
      seen_(rows.n),
      available_(rows.n),
      packed_(filter_.pairs) {
  for (int w = 0; w < threads; ++w)
    scans_.push_back(std::make_unique<Scan>(filter_, kernels, 1, kGroup));
  micro_.values = Buffer<double>(std::min(rows.n, int64_t(kMicro)) * padded(rows.d));
  const int64_t width = padded(rows.d);
  Buffer<double> canonical(threads * width);
  parallel_for(
      threads_, (rows.n + kPrepare - 1) / kPrepare,
      [&](int64_t item, int worker) {
        double* row = canonical.get() + worker * width;
        for (int64_t i = item * kPrepare; i < std::min(rows.n, (item + 1) * kPrepare); ++i) {
          kernels_.load_row(rows_, i, row);
          const Rounded r = filter_.round(kernels_, row, &rounded_[i * 2 * filter_.pairs]);
          norm2_[i] = r.norm2;
          residual_[i] = std::nextafter(float(r.residual), std::numeric_limits<float>::infinity());
          bounds_[i] = std::numeric_limits<double>::infinity();
          seen_[i] = 0;
        }
      },
      poll_);
}

void Pool::append(int32_t source, int64_t row, const uint16_t* rounded, double norm2,
                  double residual) {
  packed_.resize(count() + 1);
  packed_.put(count(), rounded, norm2, residual);
  chosen_.push_back({source, row});
}

void Pool::pick(const int64_t* rows, int64_t count) {
  for (int64_t j = 0; j < count; ++j) {
    const int64_t i = rows[j];
    append(-1, i, &rounded_[i * 2 * filter_.pairs], norm2_[i], residual_[i]);
    bounds_[i] = kChosen;
    --available_;
    if ((j + 1) % kPolled == 0) poll_();
  }
}

void Pool::extend(const Rows& vectors) {
  extra_.push_back(vectors);
  std::vector<double> row(size_t(padded(vectors.d)));
  std::vector<uint16_t> rounded(size_t(2 * filter_.pairs));
  for (int64_t i = 0; i < vectors.n; ++i) {
    kernels_.load_row(vectors, i, row.data());
    const Rounded r = filter_.round(kernels_, row.data(), rounded.data());
    append(int32_t(extra_.size()) - 1, i, rounded.data(), r.norm2, r.residual);
    if ((i + 1) % kPolled == 0) poll_();
  }
}

double Pool::exact(const double* x, int64_t packed) const {
  const Chosen& c = chosen_[size_t(packed)];
  return kernels_.distance_to_row(x, c.source < 0 ? rows_ : extra_[size_t(c.source)], c.row);
}

void Pool::refresh_all() {
  std::vector<int64_t> rows(static_cast<size_t>(n()));
  for (int64_t i = 0; i < n(); ++i) rows[size_t(i)] = i;
  refresh_groups(rows);
}

void Pool::refresh(std::vector<int64_t> rows) {
  // Rows that have seen equally many choices share a range of panels.
  std::sort(rows.begin(), rows.end(), [&](int64_t a, int64_t b) {
    return seen_[a] != seen_[b] ? seen_[a] < seen_[b] : a < b;
  });
  refresh_groups(rows);
}

void Pool::refresh_groups(const std::vector<int64_t>& rows) {
  Timer timer(profile_.refresh_seconds);
  const int64_t total = int64_t(rows.size());
  // Waking other threads costs microseconds, and a job is cut so that every thread gets a share.
  double products = 0;
  for (int64_t i : rows) products += double(count() - seen_[i]) * double(d() + kPerPair);
  const int threads = products < kWorthThreads ? 1 : threads_;
  const int64_t size = std::clamp<int64_t>((total + threads - 1) / threads, 4, kGroup);
  parallel_for(
      threads, (total + size - 1) / size,
      [&](int64_t item, int worker) {
        Scan& scan = *scans_[size_t(worker)];
        int64_t members[kGroup];
        int count = 0;
        int64_t first = this->count();
        for (int64_t j = item * size; j < std::min(total, (item + 1) * size); ++j) {
          const int64_t i = rows[size_t(j)];
          if (seen_[i] == this->count() || bounds_[i] <= 0) continue;  // nothing can lower it
          const Nearest best = {bounds_[i], -1};
          scan.set_row(count, rows_, i, &rounded_[i * 2 * filter_.pairs], norm2_[i], residual_[i],
                       &best, -1);
          first = std::min<int64_t>(first, seen_[i]);
          members[count++] = i;
        }
        if (count == 0) return;
        scan.run(count, packed_, first, this->count(),
                 [this](const double* x, int64_t packed) { return exact(x, packed); });
        for (int g = 0; g < count; ++g) {
          bounds_[members[g]] = scan.best(g)->squared;
          seen_[members[g]] = int32_t(this->count());
        }
        scan.refreshed += count;
      },
      poll_);
}

double Pool::widest() const {
  double widest = 0;
  for (int64_t i = 0; i < n(); ++i) widest = std::max(widest, bounds_[i]);
  return widest;
}

void Pool::load(MicroBlock& block) {
  for (size_t j = 0; j < block.rows.size(); ++j)
    if (block.active[j])
      kernels_.load_row(rows_, block.rows[j], &block.values[int64_t(j) * padded(d())]);
}

// Chooses one row of the block and lowers the bounds of its other active rows exactly.
void Pool::choose_in(MicroBlock& block, size_t place) {
  const int64_t width = padded(d()), row = block.rows[place];
  pick(&row, 1);
  block.active[place] = false;
  for (size_t j = 0; j < block.rows.size(); ++j) {
    if (!block.active[j]) continue;
    const double squared = kernels_.distance(&block.values[int64_t(place) * width],
                                             &block.values[int64_t(j) * width], width);
    ++profile_.settled;
    bounds_[block.rows[j]] = std::min(bounds_[block.rows[j]], squared);
  }
}

// Rows that were active throughout have seen every choice made in the block.
void Pool::keep_current(const MicroBlock& block) {
  for (size_t j = 0; j < block.rows.size(); ++j)
    if (block.active[j]) seen_[block.rows[j]] = int32_t(count());
}

Pool::Profile Pool::profile() const {
  Profile result = profile_;
  for (const auto& scan : scans_) {
    result.pairs += scan->pairs;
    result.rechecks += scan->rechecks;
    result.refreshed += scan->refreshed;
  }
  return result;
}

}  // namespace entroselect
