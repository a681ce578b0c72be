#include "nearest.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <vector>

#include "filter.h"
#include "packed.h"
#include "scan.h"
#include "threads.h"

namespace entroselect {

namespace {

struct Scratch {
  Scratch(const Filter& filter, const Kernels& kernels, int64_t k)
      : scan(filter, kernels, k),
        canonical(padded(filter.d)),
        rounded(kGroup * 2 * filter.pairs) {}

  Scan scan;
  Buffer<double> canonical;
  Buffer<uint16_t> rounded;
};

}  // namespace

void nearest(const Rows& queries, const Rows& points, bool same, int64_t k, const Kernels& kernels,
             int threads, const std::function<void(int64_t)>& poll, double* squared,
             int64_t* indices) {
  const Filter filter(points, kernels);
  std::vector<std::unique_ptr<Scratch>> scratch;
  for (int w = 0; w < threads; ++w)
    scratch.push_back(std::make_unique<Scratch>(filter, kernels, k));
  std::atomic<int64_t> done{0};
  const auto report = [&] { poll(done.load()); };

  Packed packed(filter.pairs);
  packed.resize(points.n);
  parallel_for(
      threads, packed.panels(),
      [&](int64_t p, int worker) {
        Scratch& own = *scratch[size_t(worker)];
        for (int64_t i = p * kPanel; i < std::min(points.n, (p + 1) * kPanel); ++i) {
          kernels.load_row(points, i, own.canonical.get());
          const Rounded r = filter.round(kernels, own.canonical.get(), own.rounded.get());
          packed.put(i, own.rounded.get(), r.norm2, r.residual);
        }
      },
      report);

  const std::vector<Nearest> none(
      size_t(k), Nearest{std::numeric_limits<double>::infinity(), std::numeric_limits<int64_t>::max()});
  const ExactDistance exact = [&](const double* x, int64_t j) {
    return kernels.distance_to_row(x, points, j);
  };
  const int64_t size = std::clamp<int64_t>((queries.n + threads - 1) / threads, 1, kGroup);
  parallel_for(
      threads, (queries.n + size - 1) / size,
      [&](int64_t item, int worker) {
        Scratch& own = *scratch[size_t(worker)];
        const int64_t first = item * size;
        const int count = int(std::min(queries.n, first + size) - first);
        for (int g = 0; g < count; ++g) {
          uint16_t* rounded = &own.rounded[g * 2 * filter.pairs];
          kernels.load_row(queries, first + g, own.canonical.get());
          const Rounded r = filter.round(kernels, own.canonical.get(), rounded);
          own.scan.set_row(g, queries, first + g, rounded, r.norm2, r.residual, none.data(),
                           same ? first + g : -1);
        }
        own.scan.run(count, packed, 0, points.n, exact);
        for (int g = 0; g < count; ++g)
          for (int64_t m = 0; m < k; ++m) {
            squared[(first + g) * k + m] = own.scan.best(g)[m].squared;
            indices[(first + g) * k + m] = own.scan.best(g)[m].index;
          }
        done.fetch_add(count);
      },
      report);
}

}  // namespace entroselect
