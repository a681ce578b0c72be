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
constexpr int64_t kPatience = 8;       // rechecks a row that are nobody's concern
constexpr int64_t kDear = 64;          // pairs of bytes that cost about as much as one recheck
constexpr double kPerPair = 16;        // cost of a pair beside its columns, in products
}  // namespace

Pool::Pool(const Rows& rows, const Kernels& kernels, Form form, int threads,
           std::function<void()> poll)
    : rows_(rows),
      kernels_(kernels),
      threads_(threads),
      poll_(std::move(poll)),
      filter_(std::make_unique<Filter>(rows, kernels, form)),
      coded_(rows.n),
      bounds_(rows.n),
      seen_(rows.n),
      available_(rows.n) {
  micro_.values = Buffer<double>(std::min(rows.n, int64_t(kMicro)) * padded(rows.d));
  std::fill(bounds_.get(), bounds_.get() + rows.n, std::numeric_limits<double>::infinity());
  std::fill(seen_.get(), seen_.get() + rows.n, 0);
  code_rows();
}

// Codes all rows for the filter and makes what depends on the form of the codes.
void Pool::code_rows() {
  const int offset = filter_->form == Form::bytes ? kernels_.panel_offset : 0;
  packed_ = std::make_unique<Packed>(filter_->words, offset);
  coder_ = std::make_unique<Coder>(*filter_, kernels_);
  profile_ = profile();
  scans_.clear();
  std::vector<Coder> coders;
  for (int w = 0; w < threads_; ++w) {
    scans_.push_back(std::make_unique<Scan>(*filter_, kernels_, 1, kGroup));
    coders.emplace_back(*filter_, kernels_);
  }
  codes_ = Buffer<uint32_t>();
  codes_ = Buffer<uint32_t>(n() * filter_->words);
  parallel_for(
      threads_, (n() + kPrepare - 1) / kPrepare,
      [&](int64_t item, int worker) {
        for (int64_t i = item * kPrepare; i < std::min(n(), (item + 1) * kPrepare); ++i)
          coded_[i] = coders[size_t(worker)].row(rows_, i, &codes_[i * filter_->words]);
      },
      poll_);
}

void Pool::pack(const Chosen& chosen) {
  const int64_t at = packed_->size();
  packed_->resize(at + 1);
  if (chosen.source < 0 && filter_->columns_are_rows) {
    packed_->put(at, &codes_[chosen.row * filter_->words], coded_[chosen.row]);
    return;
  }
  std::vector<uint32_t> code(static_cast<size_t>(filter_->words));
  const Rows& rows = chosen.source < 0 ? rows_ : extra_[size_t(chosen.source)];
  const Coded coded = coder_->column(rows, chosen.row, code.data());
  packed_->put(at, code.data(), coded);
}

void Pool::pick(const int64_t* rows, int64_t count) {
  for (int64_t j = 0; j < count; ++j) {
    chosen_.push_back({-1, rows[j]});
    pack(chosen_.back());
    bounds_[rows[j]] = kChosen;
    --available_;
    if ((j + 1) % kPolled == 0) poll_();
  }
}

void Pool::extend(const Rows& vectors) {
  extra_.push_back(vectors);
  for (int64_t i = 0; i < vectors.n; ++i) {
    chosen_.push_back({int32_t(extra_.size()) - 1, i});
    pack(chosen_.back());
    if ((i + 1) % kPolled == 0) poll_();
  }
}

// Rows that lie closer together than bytes can tell cost a recheck a pair. Where these add up to
// more than products of bfloat16 would cost, everything is coded again.
void Pool::consider_form() {
  if (filter_->form == Form::halves) return;
  const Profile so_far = profile();
  if (so_far.rechecks <= kPatience * n() + so_far.pairs / kDear) return;
  filter_ = std::make_unique<Filter>(rows_, kernels_, Form::halves);
  code_rows();
  for (const Chosen& chosen : chosen_) pack(chosen);
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
  consider_form();
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
          scan.set_row(count, rows_, i, &codes_[i * filter_->words], coded_[i], &best, -1);
          first = std::min<int64_t>(first, seen_[i]);
          members[count++] = i;
        }
        if (count == 0) return;
        scan.run(count, *packed_, first, this->count(),
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

Profile Pool::profile() const {
  Profile result = profile_;
  for (const auto& scan : scans_) {
    result.pairs += scan->pairs;
    result.rechecks += scan->rechecks;
    result.refreshed += scan->refreshed;
  }
  return result;
}

}  // namespace entroselect
