#include "nearest.h"

#include <algorithm>
#include <atomic>
#include <cmath>
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
  Scratch(const Filter& filter, const Kernels& kernels, int64_t k, int rows)
      : scan(filter, kernels, k, rows),
        canonical(padded(filter.d)),
        rounded(kGroup * 2 * filter.pairs) {}

  Scan scan;
  Buffer<double> canonical;
  Buffer<uint16_t> rounded;
};

void pack_panel(const Rows& points, int64_t p, const Filter& filter, const Kernels& kernels,
                Scratch& scratch, Packed& packed) {
  for (int64_t i = p * kPanel; i < std::min(points.n, (p + 1) * kPanel); ++i) {
    kernels.load_row(points, i, scratch.canonical.get());
    const Rounded r = filter.round(kernels, scratch.canonical.get(), scratch.rounded.get());
    packed.put(i, scratch.rounded.get(), r.norm2, r.residual);
  }
}

}  // namespace

void nearest(const Rows& queries, const Rows& points, bool same, int64_t k, const Kernels& kernels,
             int threads, const std::function<void(int64_t)>& poll, double* squared,
             int64_t* indices) {
  const Filter filter(points, kernels);
  const int64_t size = std::clamp<int64_t>((queries.n + threads - 1) / threads, 1, kGroup);
  std::vector<std::unique_ptr<Scratch>> scratch;
  for (int w = 0; w < threads; ++w)
    scratch.push_back(std::make_unique<Scratch>(filter, kernels, k, int(size)));
  std::atomic<int64_t> done{0};
  const auto report = [&] { poll(done.load()); };

  Packed packed(filter.pairs);
  packed.resize(points.n);
  parallel_for(
      threads, packed.panels(),
      [&](int64_t p, int worker) {
        pack_panel(points, p, filter, kernels, *scratch[size_t(worker)], packed);
      },
      report);

  const std::vector<Nearest> none(size_t(k), Nearest{std::numeric_limits<double>::infinity(),
                                                     std::numeric_limits<int64_t>::max()});
  const ExactDistance exact = [&](const double* x, int64_t j) {
    return kernels.distance_to_row(x, points, j);
  };
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

void filter_intervals(const Rows& queries, const Rows& points, const Kernels& kernels,
                      double* lower, double* upper) {
  const Filter filter(points, kernels);
  Scratch scratch(filter, kernels, 1, 1);
  Packed packed(filter.pairs);
  packed.resize(points.n);
  for (int64_t p = 0; p < packed.panels(); ++p)
    pack_panel(points, p, filter, kernels, scratch, packed);

  Buffer<float> wide_row(2 * filter.pairs), wide_panel(2 * filter.pairs * kPanel);
  const float everything = -std::numeric_limits<float>::infinity();
  for (int64_t q = 0; q < queries.n; ++q) {
    kernels.load_row(queries, q, scratch.canonical.get());
    const Rounded r = filter.round(kernels, scratch.canonical.get(), scratch.rounded.get());
    const RowBounds row = {r.norm2, std::sqrt(r.norm2), r.residual};
    const void* x = scratch.rounded.get();
    if (!kernels.reads_bf16) {
      kernels.widen_rows(scratch.rounded.get(), filter.pairs, wide_row.get());
      x = wide_row.get();
    }
    for (int64_t p = 0; p < packed.panels(); ++p) {
      const void* panel = packed.panel(p);
      if (!kernels.reads_bf16) {
        kernels.widen_panel(packed.panel(p), filter.pairs, wide_panel.get());
        panel = wide_panel.get();
      }
      uint32_t mask;
      float scores[kPanel];
      kernels.score(&x, 1, panel, packed.start(p), filter.pairs, &everything, &mask, scores);
      for (int64_t c = 0; c < std::min<int64_t>(kPanel, points.n - p * kPanel); ++c) {
        const auto interval = filter.certificate.interval(row, packed.bounds(p), scores[c]);
        lower[q * points.n + p * kPanel + c] = interval.lower / filter.scale;
        upper[q * points.n + p * kPanel + c] = interval.upper / filter.scale;
      }
    }
  }
}

}  // namespace entroselect
