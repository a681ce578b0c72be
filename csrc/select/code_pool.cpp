#include "select/code_pool.h"

#include <algorithm>

#include "base/threads.h"

namespace entroselect {

namespace {
constexpr int64_t kCoded = 256;  // rows per item of work when rows are coded
constexpr int64_t kSwept = 480;  // rows swept together

int64_t words(const Kernels& kernels, int64_t d) {
  return best_form(kernels, d) == Form::bytes ? (d + 3) / 4 : (d + 1) / 2;
}
}  // namespace

int64_t CodePool::row_bytes(const Kernels& kernels, int64_t d) {
  return 4 * words(kernels, d) + int64_t(sizeof(Coded) + sizeof(Unmet));
}

int64_t CodePool::pick_bytes(const Kernels& kernels, int64_t d) {
  return 4 * words(kernels, d) + Panels::bytes_per_row(0);
}

CodePool::CodePool(const Rows& sample, const Kernels& kernels, int64_t n, int threads,
                   std::function<void()> poll)
    : kernels_(kernels),
      threads_(threads),
      poll_(std::move(poll)),
      frame_(sample, kernels, best_form(kernels, sample.d)),
      room_(n),
      codes_(n * frame_.words),
      coded_(n),
      unmet_(n) {
  for (int w = 0; w < threads_; ++w) {
    coders_.emplace_back(frame_, kernels_);
    sweeps_.push_back(std::make_unique<Sweep>(frame_, kernels_, nullptr, kSwept));
  }
  restart();
}

void CodePool::restart() {
  picks_ = std::make_unique<Panels>(frame_.words,
                                    frame_.form == Form::bytes ? kernels_.panel_offset : 0);
  std::fill(unmet_.get(), unmet_.get() + coded_rows_, Unmet{0, 0, 0});
}

void CodePool::code(const Rows& rows) {
  const int64_t first = coded_rows_, count = std::min(rows.n, room_ - first);
  parallel_for(
      threads_, (count + kCoded - 1) / kCoded,
      [&](int64_t item, int worker) {
        for (int64_t i = item * kCoded; i < std::min(count, (item + 1) * kCoded); ++i) {
          const int64_t to = first + i;
          coded_[to] = coders_[size_t(worker)].row(rows, i, &codes_[to * frame_.words]);
          unmet_[to] = {0, 0, 0};
        }
      },
      poll_);
  coded_rows_ += count;
}

void CodePool::add_picks(const Rows& vectors) {
  std::vector<uint32_t> code(size_t(frame_.words));
  const int64_t first = picks_->rows();
  picks_->resize(first + vectors.n);
  for (int64_t i = 0; i < vectors.n; ++i) {
    const Coded coded = coders_[0].column(vectors, i, code.data());
    picks_->put(first + i, code.data(), coded);
    if ((i + 1) % kCoded == 0) poll_();
  }
}

void CodePool::refresh(std::vector<int64_t> rows, double enough, double* bounds,
                       const Weights& weights) {
  const int64_t total = picks_->rows();
  rows.erase(std::remove_if(rows.begin(), rows.end(),
                            [&](int64_t i) {
                              return unmet_[i].count(total) == 0 || bounds[i] <= 0 ||
                                     bounds[i] < weights.enough(i, enough);
                            }),
             rows.end());
  // Rows that have met the same picks are compared with picks together.
  std::stable_sort(rows.begin(), rows.end(),
                   [&](int64_t a, int64_t b) { return unmet_[a].next < unmet_[b].next; });
  const int64_t count = int64_t(rows.size());
  parallel_for(
      threads_, (count + kSwept - 1) / kSwept,
      [&](int64_t item, int worker) {
        Sweep& sweep = *sweeps_[size_t(worker)];
        sweep.clear();
        for (int64_t j = item * kSwept; j < std::min(count, (item + 1) * kSwept); ++j) {
          const int64_t i = rows[size_t(j)];
          sweep.add(i, &codes_[i * frame_.words], coded_[i], bounds[i], weights.enough(i, enough),
                    unmet_[i], 0);
        }
        sweep.run(*picks_);
        for (int64_t g = 0; g < sweep.size(); ++g) {
          bounds[sweep.row(g)] = sweep.bound(g);
          unmet_[sweep.row(g)] = sweep.unmet(g);
        }
      },
      poll_);
}

void CodePool::meet(const std::vector<int64_t>& rows) {
  for (int64_t i : rows) unmet_[i] = unmet_[i].without(0, picks_->rows());
}

int64_t CodePool::pairs() const {
  int64_t pairs = 0;
  for (const auto& sweep : sweeps_) pairs += sweep->pairs;
  return pairs;
}

}  // namespace entroselect
