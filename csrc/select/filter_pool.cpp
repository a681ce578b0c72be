#include "select/filter_pool.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/threads.h"
#include "base/timer.h"

namespace entroselect {

static_assert(code_bytes(0) + sizeof(Coded) + sizeof(double) + sizeof(Unmet) + sizeof(Place) +
                      3 * sizeof(int64_t) <=
                  FilterPool::bytes_per_row(0),
              "a row takes more");

namespace {
constexpr int64_t kPrepare = 256;          // rows per item of work when all rows are read
constexpr int64_t kPolled = 16384;         // rows between polls for Ctrl-C in serial loops
constexpr double kWorthThreads = 1e6;      // products, some 5 us
constexpr int64_t kWorthCoding = 1 << 16;  // values to be coded that are worth another thread
constexpr int64_t kPatience = 8;           // rechecks per row that are accepted
constexpr int64_t kDear = 64;              // pairs of bytes that cost about as much as one recheck
constexpr double kPerPair = 16;            // cost of a pair besides its columns, in products
constexpr int64_t kShares = 4;       // per thread and job, so that all end at about the same time
constexpr int64_t kSwept = 480;      // rows swept together, at most
constexpr int64_t kFirstLook = 128;  // picks at which a sample is first taken
constexpr int64_t kForcedLook = 8;   // the same if cells are made without a sample
constexpr int64_t kMostCells = 128;
constexpr double kWorthCells = 0.75;   // share of the cells that rows can skip
constexpr double kManyProducts = 5e4;  // per refreshed row: with more, cells save time
constexpr int64_t kWorthPlacing = 8;   // pairs scored per pair that placing all rows takes

// Stable; `key` gives less than `keys`.
template <class Key>
void group_by(std::vector<int64_t>& rows, int64_t keys, const Key& key) {
  if (int64_t(rows.size()) < keys / 8) {
    std::stable_sort(rows.begin(), rows.end(),
                     [&](int64_t a, int64_t b) { return key(a) < key(b); });
    return;
  }
  std::vector<int64_t> place(size_t(keys) + 1), grouped(rows.size());
  for (int64_t i : rows) ++place[size_t(key(i)) + 1];
  for (size_t k = 1; k < place.size(); ++k) place[k] += place[k - 1];
  for (int64_t i : rows) grouped[size_t(place[size_t(key(i))]++)] = i;
  rows.swap(grouped);
}
}  // namespace

FilterPool::FilterPool(const Rows& rows, const Kernels& kernels, Form form, Grouping grouping,
                       int threads, std::function<void()> poll)
    : rows_(rows),
      picked_{rows_, {}, {}},
      kernels_(kernels),
      grouping_(grouping),
      threads_(threads),
      poll_(std::move(poll)),
      frame_(std::make_unique<Frame>(rows, kernels, form)),
      coded_(rows.n),
      bounds_(rows.n),
      unmet_(rows.n),
      available_(rows.n) {
  micro_.values = Buffer<double>(std::min(rows.n, int64_t(kMicro)) * padded(rows.d));
  std::fill(bounds_.get(), bounds_.get() + rows.n, std::numeric_limits<double>::infinity());
  std::fill(unmet_.get(), unmet_.get() + rows.n, Unmet{0, 0, 0});
  code_rows();
}

// Codes all rows for the filter and makes what depends on the form of the codes.
void FilterPool::code_rows() {
  clear_picks();
  coder_ = std::make_unique<Coder>(*frame_, kernels_);
  profile_ = profile();
  sweeps_.clear();
  std::vector<Coder> coders;
  for (int w = 0; w < threads_; ++w) {
    sweeps_.push_back(std::make_unique<Sweep>(*frame_, kernels_, &picked_, std::min(n(), kSwept)));
    coders.emplace_back(*frame_, kernels_);
  }
  codes_ = Buffer<uint32_t>();
  codes_ = Buffer<uint32_t>(n() * frame_->words);
  parallel_for(
      n() * d() < kWorthCoding ? 1 : threads_, (n() + kPrepare - 1) / kPrepare,
      [&](int64_t item, int worker) {
        for (int64_t i = item * kPrepare; i < std::min(n(), (item + 1) * kPrepare); ++i)
          coded_[i] = coders[size_t(worker)].row(rows_, i, &codes_[i * frame_->words]);
      },
      poll_);
}

void FilterPool::pack(int64_t number) {
  const PickedRows::Pick pick = picked_.picks[size_t(number)];
  const uint32_t* code = nullptr;
  Coded coded;
  std::vector<uint32_t> own;
  if (pick.source < 0 && frame_->columns_are_rows) {
    code = &codes_[pick.row * frame_->words];
    coded = coded_[pick.row];
  } else {
    own.resize(size_t(frame_->words));
    coded = coder_->column(picked_.rows(pick), pick.row, own.data());
    code = own.data();
  }
  if (cells_) {
    const Place anywhere = {0, std::numeric_limits<float>::infinity()};
    cells_->put(int32_t(number), pick.source < 0 ? places_[pick.row] : anywhere, code, coded);
  } else {
    panels_->resize(number + 1);
    panels_->put(number, code, coded);
  }
}

void FilterPool::add_picks(const int64_t* rows, int64_t size) {
  for (int64_t j = 0; j < size; ++j) {
    picked_.picks.push_back({-1, rows[j]});
    pack(count() - 1);
    if ((j + 1) % kPolled == 0) poll_();
  }
  exclude(rows, size);
}

void FilterPool::exclude(const int64_t* rows, int64_t size) {
  for (int64_t j = 0; j < size; ++j) bounds_[rows[j]] = kPicked;
  available_ -= size;
}

void FilterPool::put_back(const int64_t* rows, const double* bounds, int64_t size) {
  for (int64_t j = 0; j < size; ++j) bounds_[rows[j]] = bounds[j];
  available_ += size;
}

void FilterPool::restart(const double* bounds, const int64_t* met) {
  picked_.picks.clear();
  picked_.given.clear();
  clear_picks();
  available_ = 0;
  for (int64_t i = 0; i < n(); ++i) {
    bounds_[i] = bounds[i];
    unmet_[i] = {0, 0, int32_t(met[i])};
    available_ += bounds[i] != kPicked;
  }
}

void FilterPool::clear_picks() {
  const int offset = frame_->form == Form::bytes ? kernels_.panel_offset : 0;
  panels_ = std::make_unique<Panels>(frame_->words, offset);
  cells_.reset();
  next_look_ = grouping_ == Grouping::always ? kForcedLook : kFirstLook;
}

void FilterPool::add_vectors(const Rows& vectors) {
  picked_.given.push_back(vectors);
  for (int64_t i = 0; i < vectors.n; ++i) {
    picked_.picks.push_back({int32_t(picked_.given.size()) - 1, i});
    pack(count() - 1);
    if ((i + 1) % kPolled == 0) poll_();
  }
}

// If rows lie so close together that bytes cannot tell them apart, every pair costs a recheck. When
// rechecks have cost more than products of bfloat16 would, all rows are coded again, in bfloat16.
void FilterPool::consider_form() {
  if (frame_->form == Form::halves) return;
  const Profile so_far = profile();
  if (so_far.rechecks <= kPatience * n() + so_far.pairs / kDear) return;
  frame_ = std::make_unique<Frame>(rows_, kernels_, Form::halves);
  code_rows();
  for (int64_t number = 0; number < count(); ++number) pack(number);
}

// Whether a sample of the rows can skip most of the cells.
bool FilterPool::cells_pay(const Cells& cells) const {
  Group group(*frame_, kernels_);
  double spared = 0;
  for (int64_t s = 0; s < kGroup; ++s) {
    const int64_t i = s * n() / kGroup;
    const Cells::Row row = {&codes_[i * frame_->words], &coded_[i]};
    Place place;
    cells.place(&row, 1, *panels_, group, &place);
    spared += cells.spared(place, frame_->certificate.reach(std::max(bounds_[i], 0.0)));
  }
  return spared > kWorthCells * kGroup;
}

// In a clustered pool the first picks give a centre for each cluster. A sample of rows shows
// whether cells pay. It is taken when rows have been compared with enough picks, and again each
// time there are four times as many.
void FilterPool::consider_cells() {
  if (cells_ || !picked_.given.empty() || count() < next_look_ || grouping_ == Grouping::never)
    return;
  const Profile so_far = profile();
  const double products = double(so_far.pairs) * double(d());
  const int64_t size = std::min(count(), kMostCells);
  if (grouping_ == Grouping::automatic && (products < kManyProducts * double(so_far.refreshed) ||
                                           so_far.pairs < kWorthPlacing * n() * size))
    return;
  next_look_ = 4 * count();
  std::vector<Cells::Row> centres;
  for (int64_t c = 0; c < size; ++c) {
    const int64_t i = picked_.picks[size_t(c)].row;
    centres.push_back({&codes_[i * frame_->words], &coded_[i]});
  }
  auto cells = std::make_unique<Cells>(*frame_, kernels_, centres, *panels_);
  if (grouping_ == Grouping::automatic && !cells_pay(*cells)) return;
  places_ = Buffer<Place>(n());
  std::vector<std::unique_ptr<Group>> scratch;
  for (int w = 0; w < threads_; ++w) scratch.push_back(std::make_unique<Group>(*frame_, kernels_));
  parallel_for(
      threads_, (n() + kGroup - 1) / kGroup,
      [&](int64_t item, int worker) {
        Cells::Row rows[kGroup];
        int members = 0;
        for (int64_t i = item * kGroup; i < std::min(n(), (item + 1) * kGroup); ++i)
          rows[members++] = {&codes_[i * frame_->words], &coded_[i]};
        cells->place(rows, members, *panels_, *scratch[size_t(worker)], &places_[item * kGroup]);
      },
      poll_);
  cells_ = std::move(cells);
  panels_.reset();
  for (int64_t number = 0; number < count(); ++number) pack(number);
  for (int64_t i = 0; i < n(); ++i) unmet_[i] = {0, 0, int32_t(unmet_[i].oldest())};
}

void FilterPool::refresh_all(double enough) {
  if (count() == 1 && !rows_.lengths) return compare_with_first(enough);
  std::vector<int64_t> rows(static_cast<size_t>(n()));
  for (int64_t i = 0; i < n(); ++i) rows[size_t(i)] = i;
  refresh(std::move(rows), enough);
}

// With one pick, exact distances take less time than score tiles, which would be all but empty.
void FilterPool::compare_with_first(double enough) {
  Timer timer(profile_.refresh_seconds);
  const PickedRows::Pick pick = picked_.picks[0];
  Buffer<double> x(padded(d()));
  kernels_.load_row(picked_.rows(pick), pick.row, x.get());
  std::vector<int64_t> compared(size_t(threads_), 0);
  parallel_for(
      double(n()) * double(d()) < kWorthThreads ? 1 : threads_, (n() + kPrepare - 1) / kPrepare,
      [&](int64_t item, int worker) {
        for (int64_t i = item * kPrepare; i < std::min(n(), (item + 1) * kPrepare); ++i) {
          if (!stale(i, enough)) continue;
          bounds_[i] = std::min(bounds_[i], kernels_.distance_to_row(x.get(), rows_, i));
          unmet_[i] = unmet_[i].without(0, 1);
          ++compared[size_t(worker)];
        }
      },
      poll_);
  for (const int64_t rows : compared) {
    profile_.settled += rows;
    profile_.refreshed += rows;
  }
}

void FilterPool::refresh(std::vector<int64_t> rows, double enough) {
  consider_form();
  consider_cells();
  Timer timer(profile_.refresh_seconds);
  double products = 0;
  size_t kept = 0;
  for (const int64_t i : rows) {
    if (!stale(i, enough)) continue;
    products += double(unmet_[i].count(count())) * double(d() + kPerPair);
    rows[kept++] = i;
  }
  rows.resize(kept);
  if (rows.empty()) return;
  // Rows of one cell, and rows that have met the same picks, are compared with picks together.
  group_by(rows, count() + 1, [&](int64_t i) { return unmet_[i].next; });
  if (cells_) group_by(rows, cells_->size(), [&](int64_t i) { return places_[i].cell; });
  // Waking other threads costs microseconds.
  refresh_groups(rows, products < kWorthThreads ? 1 : threads_, enough);
}

void FilterPool::refresh_groups(const std::vector<int64_t>& rows, int threads, double enough) {
  const int64_t total = int64_t(rows.size());
  // A job is cut so that every thread gets a share.
  const int64_t share = std::max<int64_t>((total + threads - 1) / threads, 4);
  const int64_t most = std::min(share, std::clamp<int64_t>(share / kShares, kGroup, kSwept));
  std::vector<int64_t> cuts = {0};
  for (int64_t j = 1; j < total; ++j)
    if (j - cuts.back() == most || home(rows[size_t(j)]) != home(rows[size_t(j - 1)]))
      cuts.push_back(j);
  cuts.push_back(total);
  parallel_for(
      threads, int64_t(cuts.size()) - 1,
      [&](int64_t item, int worker) {
        Sweep& sweep = *sweeps_[size_t(worker)];
        sweep.clear();
        for (int64_t j = cuts[size_t(item)]; j < cuts[size_t(item) + 1]; ++j) {
          const int64_t i = rows[size_t(j)];
          sweep.add(i, &codes_[i * frame_->words], coded_[i], bounds_[i],
                    weights_.enough(i, enough), unmet_[i], cells_ ? places_[i].toward : 0);
        }
        if (cells_)
          sweep.run(*cells_, home(sweep.row(0)), count());
        else
          sweep.run(*panels_);
        for (int64_t g = 0; g < sweep.size(); ++g) {
          bounds_[sweep.row(g)] = sweep.bound(g);
          unmet_[sweep.row(g)] = sweep.unmet(g);
        }
      },
      poll_);
}

double FilterPool::widest() const {
  double widest = 0;
  for (int64_t i = 0; i < n(); ++i) widest = std::max(widest, bounds_[i]);
  return widest;
}

void FilterPool::load(MicroBlock& block) {
  for (size_t j = 0; j < block.rows.size(); ++j)
    if (block.active[j])
      kernels_.load_row(rows_, block.rows[j], &block.values[int64_t(j) * padded(d())]);
}

// Picks one row of the micro-block and updates the bounds of its other active rows exactly.
void FilterPool::pick_in(MicroBlock& block, size_t place) {
  const int64_t width = padded(d()), row = block.rows[place];
  add_picks(&row, 1);
  block.active[place] = false;
  for (size_t j = 0; j < block.rows.size(); ++j) {
    if (!block.active[j]) continue;
    const double squared = kernels_.distance(&block.values[int64_t(place) * width],
                                             &block.values[int64_t(j) * width], width);
    ++profile_.settled;
    bounds_[block.rows[j]] = std::min(bounds_[block.rows[j]], squared);
  }
}

// Rows that stayed active have met every pick made in the micro-block.
void FilterPool::keep_current(const MicroBlock& block) {
  for (size_t j = 0; j < block.rows.size(); ++j)
    if (block.active[j]) unmet_[block.rows[j]] = unmet_[block.rows[j]].without(0, count());
}

Profile FilterPool::profile() const {
  Profile result = profile_;
  result.cells = cells_ ? cells_->size() : 0;
  for (const auto& sweep : sweeps_) {
    result.pairs += sweep->pairs;
    result.rechecks += sweep->rechecks;
    result.refreshed += sweep->refreshed;
  }
  return result;
}

}  // namespace entroselect
