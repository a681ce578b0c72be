#include "row_passes.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/threads.h"
#include "isa/lengths.h"

namespace entroselect {

namespace {

constexpr int64_t kRowsAtOnce = 256;        // per item of work
constexpr int64_t kWorthThreads = 1 << 16;  // values; fewer are done before another thread wakes
constexpr int64_t kPolled = 16384;          // rows between polls for Ctrl-C in a serial loop

// Calls body(i) for every row, on all threads.
template <class Body>
void for_each_row(const Rows& rows, int threads, const std::function<void()>& poll,
                  const Body& body) {
  parallel_for(
      rows.n * rows.d < kWorthThreads ? 1 : threads, (rows.n + kRowsAtOnce - 1) / kRowsAtOnce,
      [&](int64_t item, int) {
        const int64_t end = std::min(rows.n, (item + 1) * kRowsAtOnce);
        for (int64_t i = item * kRowsAtOnce; i < end; ++i) body(i);
      },
      poll);
}

// The lowest row for which `bad` holds, -1 if there is none.
template <class Bad>
int64_t first_row_where(const Rows& rows, int threads, const std::function<void()>& poll,
                        const Bad& bad) {
  std::atomic<int64_t> first{rows.n};
  for_each_row(rows, threads, poll, [&](int64_t i) {
    int64_t known = first.load(std::memory_order_relaxed);
    if (i >= known || !bad(i)) return;
    while (i < known && !first.compare_exchange_weak(known, i)) {
    }
  });
  return first == rows.n ? -1 : first.load();
}

}  // namespace

std::vector<double> lengths_of(const Rows& rows, const Kernels& kernels, int threads,
                               const std::function<void()>& poll) {
  std::vector<double> lengths(size_t(rows.n));
  const std::vector<double> zero(size_t(padded(rows.d)));
  for_each_row(rows, threads, poll,
               [&](int64_t i) { lengths[size_t(i)] = length_of(rows, i, kernels, zero.data()); });
  return lengths;
}

int64_t first_unusable_row(const Rows& rows, const Kernels& kernels, double largest, int threads,
                           const std::function<void()>& poll) {
  return first_row_where(rows, threads, poll,
                         [&](int64_t i) { return kernels.first_unusable(rows, i, largest) >= 0; });
}

int64_t first_zero_row(const Rows& rows, const Kernels& kernels, int threads,
                       const std::function<void()>& poll) {
  const std::vector<double> zero(size_t(padded(rows.d)));
  return first_row_where(rows, threads, poll,
                         [&](int64_t i) { return length_of(rows, i, kernels, zero.data()) == 0; });
}

void add_rows(const Rows& rows, const Kernels& kernels, const std::function<void()>& poll,
              double* sum) {
  std::vector<double> row(size_t(padded(rows.d)));
  for (int64_t i = 0; i < rows.n; ++i) {
    kernels.load_row(rows, i, row.data());
    for (int64_t l = 0; l < rows.d; ++l) sum[l] += row[size_t(l)];
    if ((i + 1) % kPolled == 0) poll();
  }
}

void distances_to(const Rows& rows, const double* vector, const Kernels& kernels, int threads,
                  const std::function<void()>& poll, double* squared) {
  std::vector<double> x(size_t(padded(rows.d)));
  std::copy(vector, vector + rows.d, x.begin());
  for_each_row(rows, threads, poll,
               [&](int64_t i) { squared[i] = kernels.distance_to_row(x.data(), rows, i); });
}

void add_distances(const Rows& rows, const Rows& points, const Kernels& kernels, int threads,
                   const std::function<void()>& poll, double* totals) {
  const int64_t width = padded(rows.d);
  // As many canonical points at a time as a second-level cache holds.
  const int64_t at_once =
      std::min(points.n, std::max<int64_t>(8, (int64_t(1) << 18) / (8 * width)));
  constexpr int64_t kRows = 64;
  parallel_for(
      threads, (rows.n + kRows - 1) / kRows,
      [&](int64_t item, int) {
        const int64_t first = item * kRows, count = std::min(kRows, rows.n - first);
        std::vector<double> x(size_t(kRows * width)), y(size_t(at_once * width));
        for (int64_t i = 0; i < count; ++i)
          kernels.load_row(rows, first + i, &x[size_t(i * width)]);
        for (int64_t start = 0; start < points.n; start += at_once) {
          const int64_t size = std::min(at_once, points.n - start);
          for (int64_t j = 0; j < size; ++j)
            kernels.load_row(points, start + j, &y[size_t(j * width)]);
          for (int64_t i = 0; i < count; ++i) {
            double total = totals[first + i];
            for (int64_t j = 0; j < size; ++j)
              total +=
                  std::sqrt(kernels.distance(&x[size_t(i * width)], &y[size_t(j * width)], width));
            totals[first + i] = total;
          }
        }
      },
      poll);
}

}  // namespace entroselect
