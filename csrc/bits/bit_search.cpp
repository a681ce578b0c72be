#include "bits/bit_search.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "base/threads.h"

namespace entroselect {

namespace {

constexpr int64_t kTogether = 32;  // queries compared with a panel while it is in the cache

BitPanels pack_all(const Rows& points, BitMetric metric, const Kernels& kernels, int threads,
                   const std::function<void()>& poll) {
  BitPanels panels(points.d, metric, kernels);
  panels.resize(points.n);
  parallel_for(
      threads, panels.size(),
      [&](int64_t p, int) {
        std::vector<BitWord> words(size_t(bit_words(points.d)));
        const int64_t end = std::min(points.n, (p + 1) * kBitPanel);
        for (int64_t i = p * kBitPanel; i < end; ++i)
          panels.put(i, load_bits(points, i, count_bits(points, i), words.data()));
      },
      poll);
  return panels;
}

// Calls visit(query, point, squared) for all pairs, points in ascending order, but for some that
// are farther apart than limit(query), squared.
template <class Limit, class Visit>
void compare_all(const Rows& queries, const Rows& points, BitMetric metric, const Kernels& kernels,
                 int threads, const std::function<void(int64_t)>& poll, const Limit& limit,
                 const Visit& visit) {
  std::atomic<int64_t> done{0};
  const auto report = [&] { poll(done.load()); };
  const BitPanels panels = pack_all(points, metric, kernels, threads, report);
  const int64_t words = bit_words(queries.d);
  const int64_t size = std::clamp<int64_t>((queries.n + threads - 1) / threads, 1, kTogether);
  parallel_for(
      threads, (queries.n + size - 1) / size,
      [&](int64_t item, int) {
        const int64_t first = item * size, count = std::min(size, queries.n - first);
        std::vector<BitWord> loaded(size_t(count * words));
        std::vector<BitRow> x;
        for (int64_t g = 0; g < count; ++g)
          x.push_back(load_bits(queries, first + g, count_bits(queries, first + g),
                                &loaded[size_t(g * words)]));
        double squared[kBitPanel];
        for (int64_t p = 0; p < panels.size(); ++p) {
          const int64_t base = p * kBitPanel, held = std::min<int64_t>(kBitPanel, points.n - base);
          for (int64_t g = 0; g < count; ++g) {
            const double most = limit(first + g);
            if (panels.distances(x[size_t(g)], p, bit_reach(most), squared) > most) continue;
            for (int64_t j = 0; j < held; ++j) visit(first + g, base + j, squared[j]);
          }
        }
        done.fetch_add(count);
      },
      report);
}

}  // namespace

void bit_nearest(const Rows& queries, const Rows& points, bool same, int64_t k, BitMetric metric,
                 const Kernels& kernels, int threads, const std::function<void(int64_t)>& poll,
                 double* squared, int64_t* indices) {
  compare_all(
      queries, points, metric, kernels, threads, poll,
      [&](int64_t query) { return squared[(query + 1) * k - 1]; },
      [&](int64_t query, int64_t point, double distance) {
        if (same && point == query) return;
        double* const known = squared + query * k;
        int64_t* const index = indices + query * k;
        const Neighbour found = {distance, point};
        int64_t at = k;  // where it belongs in the list
        while (at > 0 && found < Neighbour{known[at - 1], index[at - 1]}) --at;
        if (at == k) return;
        std::copy_backward(known + at, known + k - 1, known + k);
        std::copy_backward(index + at, index + k - 1, index + k);
        known[at] = distance;
        index[at] = point;
      });
}

void bit_within(const Rows& queries, const Rows& points, double limit, BitMetric metric,
                const Kernels& kernels, int threads, const std::function<void(int64_t)>& poll,
                Lists& lists) {
  lists.assign(size_t(queries.n), {});
  compare_all(
      queries, points, metric, kernels, threads, poll, [&](int64_t) { return limit; },
      [&](int64_t query, int64_t point, double distance) {
        if (distance <= limit) lists[size_t(query)].push_back({distance, point});
      });
}

}  // namespace entroselect
