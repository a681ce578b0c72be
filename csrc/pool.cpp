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
constexpr int64_t kSwept = 480;        // rows that meet the choices together, at most
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
      unseen_(rows.n),
      available_(rows.n) {
  micro_.values = Buffer<double>(std::min(rows.n, int64_t(kMicro)) * padded(rows.d));
  std::fill(bounds_.get(), bounds_.get() + rows.n, std::numeric_limits<double>::infinity());
  std::fill(unseen_.get(), unseen_.get() + rows.n, Unseen{0, 0, 0});
  code_rows();
}

// Codes all rows for the filter and makes what depends on the form of the codes.
void Pool::code_rows() {
  const int offset = filter_->form == Form::bytes ? kernels_.panel_offset : 0;
  packed_ = std::make_unique<Packed>(filter_->words, offset);
  coder_ = std::make_unique<Coder>(*filter_, kernels_);
  profile_ = profile();
  sweeps_.clear();
  std::vector<Coder> coders;
  for (int w = 0; w < threads_; ++w) {
    sweeps_.push_back(std::make_unique<Sweep>(
        *filter_, kernels_, rows_,
        [this](const double* x, int64_t packed) { return exact(x, packed); }, kSwept));
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

void Pool::refresh_all(double enough) {
  std::vector<int64_t> rows(static_cast<size_t>(n()));
  for (int64_t i = 0; i < n(); ++i) rows[size_t(i)] = i;
  refresh_groups(rows, enough);
}

void Pool::refresh(std::vector<int64_t> rows, double enough) {
  // Rows that have met the same choices go through the others together.
  std::vector<std::pair<int32_t, int64_t>> order;
  for (int64_t i : rows) order.push_back({unseen_[i].next, i});
  std::sort(order.begin(), order.end());
  for (size_t j = 0; j < rows.size(); ++j) rows[j] = order[j].second;
  refresh_groups(rows, enough);
}

void Pool::refresh_groups(const std::vector<int64_t>& rows, double enough) {
  consider_form();
  Timer timer(profile_.refresh_seconds);
  const int64_t total = int64_t(rows.size());
  // Waking other threads costs microseconds, and a job is cut so that every thread gets a share.
  double products = 0;
  for (int64_t i : rows) products += double(unseen_[i].count(count())) * double(d() + kPerPair);
  const int threads = products < kWorthThreads ? 1 : threads_;
  const int64_t size = std::clamp<int64_t>((total + threads - 1) / threads, 4, kSwept);
  parallel_for(
      threads, (total + size - 1) / size,
      [&](int64_t item, int worker) {
        Sweep& sweep = *sweeps_[size_t(worker)];
        sweep.clear();
        for (int64_t j = item * size; j < std::min(total, (item + 1) * size); ++j) {
          const int64_t i = rows[size_t(j)];
          if (unseen_[i].count(count()) == 0 || bounds_[i] <= 0) continue;  // nothing can lower it
          if (bounds_[i] >= enough)
            sweep.add(i, &codes_[i * filter_->words], coded_[i], bounds_[i], unseen_[i]);
        }
        sweep.run(*packed_, enough);
        for (int64_t g = 0; g < sweep.size(); ++g) {
          bounds_[sweep.row(g)] = sweep.bound(g);
          unseen_[sweep.row(g)] = sweep.unseen(g);
        }
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
    if (block.active[j]) unseen_[block.rows[j]] = unseen_[block.rows[j]].without(0, count());
}

Profile Pool::profile() const {
  Profile result = profile_;
  for (const auto& sweep : sweeps_) {
    result.pairs += sweep->pairs;
    result.rechecks += sweep->rechecks;
    result.refreshed += sweep->refreshed;
  }
  return result;
}

}  // namespace entroselect
