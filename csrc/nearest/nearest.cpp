#include "nearest/nearest.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "base/threads.h"
#include "filter/panels.h"
#include "nearest/all_pairs.h"
#include "nearest/scan.h"

namespace entroselect {

namespace {

struct Scratch {
  Scratch(const Frame& frame, const Kernels& kernels, int64_t k, int rows)
      : scan(frame, kernels, k, rows),
        coder(frame, kernels),
        codes(kGroup * frame.words),
        known(size_t(k)) {}

  Scan scan;
  Coder coder;
  Buffer<uint32_t> codes;
  std::vector<Neighbour> known;  // of one row
};

// As nearest(), with rows coded in one form. False, and nothing done, if they are bytes that
// cannot tell the rows apart.
bool nearest_in(Form form, const Rows& queries, const Rows& points, bool same, int64_t k,
                const Kernels& kernels, int threads, const std::function<void(int64_t)>& poll,
                double* squared, int64_t* indices) {
  std::atomic<int64_t> done{0};
  const auto report = [&] { poll(done.load()); };
  const ExactDistance exact = [&](const double* x, int64_t j) {
    return kernels.distance_to_row(x, points, j);
  };
  const Frame frame(points, kernels, form);
  const Panels panels = pack_all(points, frame, kernels, threads, report);
  const int64_t size = std::clamp<int64_t>((queries.n + threads - 1) / threads, 1, kGroup);
  std::vector<std::unique_ptr<Scratch>> scratch;
  for (int w = 0; w < threads; ++w)
    scratch.push_back(std::make_unique<Scratch>(frame, kernels, k, int(size)));
  const auto rows_of = [&](int64_t item) {
    return int(std::min(queries.n, (item + 1) * size) - item * size);
  };
  const auto search = [&](int64_t item, Scratch& own) {
    const int64_t first = item * size;
    for (int g = 0; g < rows_of(item); ++g) {
      const int64_t i = first + g;
      for (int64_t m = 0; m < k; ++m)
        own.known[size_t(m)] = {squared[i * k + m], indices[i * k + m]};
      uint32_t* code = &own.codes[g * frame.words];
      const Coded coded = own.coder.row(queries, i, code);
      own.scan.set_row(g, queries, i, code, coded, own.known.data(), same ? i : -1);
    }
    own.scan.run(rows_of(item), panels, 0, points.n, exact);
  };
  const auto store = [&](int64_t item, const Scratch& own) {
    const int64_t first = item * size;
    for (int g = 0; g < rows_of(item); ++g)
      for (int64_t m = 0; m < k; ++m) {
        squared[(first + g) * k + m] = own.scan.best(g)[m].squared;
        indices[(first + g) * k + m] = own.scan.best(g)[m].index;
      }
    done.fetch_add(rows_of(item));
  };

  // One group decides whether bytes can tell the rows apart.
  const int64_t items = (queries.n + size - 1) / size;
  int64_t probed = -1;
  if (form == Form::bytes) {
    probed = items / 2;
    search(probed, *scratch[0]);
    if (scratch[0]->scan.rechecks > scratch[0]->scan.pairs / kDear + 16 * k * size) return false;
    store(probed, *scratch[0]);
  }
  if (same && k == 1 && points.n <= std::numeric_limits<int32_t>::max()) {
    scratch.clear();
    all_pairs(points, frame, panels, kernels, threads, poll, squared, indices);
    return true;
  }
  parallel_for(
      threads, items,
      [&](int64_t item, int worker) {
        if (item == probed) return;  // its points would be listed twice
        search(item, *scratch[size_t(worker)]);
        store(item, *scratch[size_t(worker)]);
      },
      report);
  return true;
}

}  // namespace

void nearest(const Rows& queries, const Rows& points, bool same, int64_t k, const Kernels& kernels,
             Form form, int threads, const std::function<void(int64_t)>& poll, double* squared,
             int64_t* indices) {
  const auto done_in = [&](Form codes) {
    return nearest_in(codes, queries, points, same, k, kernels, threads, poll, squared, indices);
  };
  if (!done_in(form)) done_in(Form::halves);
}

void nearest_among(const Rows& queries, const Rows& points, bool same, const int64_t* candidates,
                   int64_t width, int64_t k, const Kernels& kernels, int threads,
                   const std::function<void()>& poll, double* squared, int64_t* indices) {
  constexpr int64_t kQueries = 64;  // of one item of work
  const auto search = [&](int64_t item, int) {
    Buffer<double> x(padded(queries.d));
    std::vector<Neighbour> found;
    for (int64_t i = item * kQueries; i < std::min(queries.n, (item + 1) * kQueries); ++i) {
      kernels.load_row(queries, i, x.get());
      const int64_t* own = candidates + i * width;
      found.clear();
      for (int64_t c = 0; c < width; ++c) {
        if (c + 1 < width && own[c + 1] >= 0) points.prefetch(own[c + 1]);
        if (own[c] >= 0 && !(same && own[c] == i))
          found.push_back({kernels.distance_to_row(x.get(), points, own[c]), own[c]});
      }
      std::sort(found.begin(), found.end());
      const auto last = std::unique(found.begin(), found.end(), [](Neighbour a, Neighbour b) {
        return a.index == b.index;  // and so at the same distance, next to each other
      });
      const int64_t count = last - found.begin();
      for (int64_t m = 0; m < k; ++m) {
        squared[i * k + m] =
            m < count ? found[size_t(m)].squared : std::numeric_limits<double>::infinity();
        indices[i * k + m] = m < count ? found[size_t(m)].index : -1;
      }
    }
  };
  parallel_for(threads, (queries.n + kQueries - 1) / kQueries, search, poll);
}

int64_t search_bytes(int64_t d, int64_t k, int threads) {
  constexpr int64_t kBeside = 65536;  // once and per thread, for any sizes
  // Per thread and column: the codes of a group; in the scan and in all_pairs, the same and a panel
  // as floats; some canonical rows.
  constexpr int64_t kColumn = 1100;
  static_assert(
      kGroup * code_bytes(1) / 2 + 2 * (kGroup + kPanel) * sizeof(float) + 4 * sizeof(double) <=
          kColumn,
      "a column takes more");
  const int64_t sample = Frame::kSample * int64_t(sizeof(double)) * d;
  return kBeside + sample + threads * (kGroup * Scan::bytes_per_row(k) + kColumn * d + kBeside);
}

void filter_intervals(const Rows& queries, const Rows& points, const Kernels& kernels, Form form,
                      double* lower, double* upper) {
  const Frame frame(points, kernels, form);
  const Panels panels = pack_all(points, frame, kernels, 1, nullptr);
  Coder coder(frame, kernels);
  Group group(frame, kernels);
  Buffer<uint32_t> code(frame.words);
  for (int64_t q = 0; q < queries.n; ++q) {
    group.set_row(0, code.get(), coder.row(queries, q, code.get()));
    group.threshold[0] = -std::numeric_limits<float>::infinity();
    for (int64_t p = 0; p < panels.size(); ++p) {
      const Panels::Panel& panel = panels.panel(p);
      group.score(1, panel);
      for (int64_t c = 0; c < std::min<int64_t>(kPanel, points.n - p * kPanel); ++c) {
        const auto interval =
            frame.certificate.interval(group.bounds[0], panel.bounds[c], group.scores[c]);
        lower[q * points.n + p * kPanel + c] = interval.lower / frame.scale;
        upper[q * points.n + p * kPanel + c] = interval.upper / frame.scale;
      }
    }
  }
}

}  // namespace entroselect
