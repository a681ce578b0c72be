// The frontier of a round: the rows with the largest bounds, and the best row left out.

#include "kernels.h"

namespace entroselect::cuda {

namespace {

// Digits of a key, the highest first, and the most blocks that share the rows.
constexpr int kDigit = 11, kBins = 1 << kDigit, kPasses = 6, kRuns = 1024;

// Keys are ordered as bounds are; 0 stands for picked rows.
ENTROSELECT_ANY inline uint64_t key_of(double bound) { return bits_of(bound) + 1; }

// Which keys belong to the frontier: all from low + width on, and the first `quota` rows of the
// `bucket` ones with a key in [low, low + width).
struct Cut {
  uint64_t low, width;
  int quota, bucket;

  ENTROSELECT_ANY bool decided() const { return quota == bucket; }
  ENTROSELECT_ANY bool above(uint64_t key) const { return key >= low && key - low >= width; }
  ENTROSELECT_ANY bool inside(uint64_t key) const { return key >= low && key - low < width; }
};

struct Tally {
  int above, inside;
};

struct Work {
  int histograms[kPasses][kBins];
  Cut cuts[kPasses + 1];  // before each digit, and after the last
  Tally tallies[kRuns];
  Key best_left[kRuns];
  Frontier found;
};

// The rows of a block, [begin, end), and how it reads their bounds.
struct Run {
  const double* bounds;
  int64_t begin, end;

  // f(row, bound) for every `step`-th row of [from, to) that is not picked; several loads are in
  // flight.
  template <class F>
  ENTROSELECT_ANY void each(int64_t from, int64_t to, int64_t step, const F& f) const {
    constexpr int kLoads = 8;
    for (int64_t i = from; i < to; i += kLoads * step) {
      double bound[kLoads];
      for (int j = 0; j < kLoads; ++j)
        bound[j] = i + j * step < to ? bounds[i + j * step] : kPicked;
      for (int j = 0; j < kLoads; ++j)
        if (bound[j] >= 0) f(i + j * step, bound[j]);
    }
  }
};

struct Bounds {
  const double* bounds;
  int64_t n, span;  // rows, and rows of a block

  ENTROSELECT_ANY Run run(int64_t block) const {
    const int64_t begin = block * span;
    return {bounds, begin, begin + span < n ? begin + span : n};
  }
};

template <int kThreads>
struct Choosing {
  int a[kThreads], b[kThreads];
  Cut cut;
};

// The cut before digit number `pass`, from the histogram of the digit before. Every block finds it
// by itself; block 0 keeps it for the next launch.
template <class AnyBlock>
ENTROSELECT_ANY Cut next_cut(const AnyBlock& block, Choosing<AnyBlock::threads>& s, Work& work,
                             int pass) {
  constexpr int threads = AnyBlock::threads, kEach = kBins / threads;
  const Cut before = work.cuts[pass - 1];
  const int* const histogram = work.histograms[pass - 1];
  const int shift = kDigit * (kPasses - pass);
  if (!before.decided()) {
    block.each([&](int t) {
      s.a[t] = 0;
      for (int j = 0; j < kEach; ++j) s.a[t] += histogram[kBins - 1 - (t * kEach + j)];
      if (t == 0) s.cut = {~uint64_t(0), 1, 0, 0};  // no row is left
    });
    add_up(block, s.a, s.b);
    const int total = s.a[threads - 1], quota = before.quota < total ? before.quota : total;
    block.each([&](int t) {
      int more = t ? s.a[t - 1] : 0;
      if (more >= quota || s.a[t] < quota) return;
      int bin = kBins - 1 - t * kEach;
      for (; more + histogram[bin] < quota; --bin) more += histogram[bin];
      s.cut = {before.low + (uint64_t(bin) << shift), uint64_t(1) << shift, quota - more,
               histogram[bin]};
    });
  } else {
    block.each([&](int t) {
      if (t == 0) s.cut = before;
    });
  }
  if (block.index() == 0)
    block.each([&](int t) {
      if (t == 0) work.cuts[pass] = s.cut;
    });
  return s.cut;
}

// best[0] <- the best of all, one per thread.
template <class AnyBlock>
ENTROSELECT_ANY void keep_best(const AnyBlock& block, Key* best) {
  constexpr int kParts = 16;
  static_assert(AnyBlock::threads % kParts == 0, "parts of equal size");
  const auto best_of = [&](int from, int step, int end) {
    for (int i = from + step; i < end; i += step)
      if (best[i].beats(best[from])) best[from] = best[i];
  };
  block.each([&](int t) {
    if (t < kParts) best_of(t, kParts, AnyBlock::threads);
  });
  block.each([&](int t) {
    if (t == 0) best_of(0, 1, kParts);
  });
}

// Empty histograms, and the cut before the first digit: any key, `size` of them.
//
//   grid      kPasses * kBins / 256 blocks of 256 threads, one thread per bin
//   shared    none; no syncs
struct Begin {
  static constexpr int threads = 256;
  using Shared = NoShared;

  Work* work;
  int size, count;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    block.each([&](int t) {
      const int64_t place = block.index() * threads + t;
      work->histograms[place / kBins][place % kBins] = 0;
      if (place) return;
      work->cuts[0] = {0, 0, size, -1};
      work->found.stale = {0, count};
    });
  }
};

// Counts the next digit of the keys that have the digits of the cut.
//
//   grid      at most kRuns blocks of 256 threads, each with its run of rows
//   shared    10 KB; 20 syncs; blocks add to one histogram by atomics, so any order
//   valid     fewer than 2^31 rows; bounds >= 0 or kPicked
struct CountDigit {
  static constexpr int threads = 256;
  struct Shared {
    int bins[kBins];
    Choosing<threads> choosing;
  };

  Bounds rows;
  Work* work;
  int pass;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    const Cut cut = pass ? next_cut(block, s.choosing, *work, pass) : work->cuts[0];
    if (cut.decided()) return;
    block.each([&](int t) {
      for (int i = t; i < kBins; i += threads) s.bins[i] = 0;
    });
    const Run run = rows.run(block.index());
    const int shift = kDigit * (kPasses - 1 - pass);
    block.each([&](int t) {
      // Large bounds share their first digits: equal ones in a row are added at once.
      int last = 0, equal = 0;
      run.each(run.begin + t, run.end, threads, [&](int64_t, double bound) {
        const uint64_t key = key_of(bound);
        if (pass && !cut.inside(key)) return;
        const int digit = int((key - cut.low) >> shift);
        if (digit != last && equal) {
          add_to(&s.bins[last], equal);
          equal = 0;
        }
        last = digit;
        ++equal;
      });
      if (equal) add_to(&s.bins[last], equal);
    });
    block.each([&](int t) {
      for (int i = t; i < kBins; i += threads)
        if (s.bins[i]) add_to(&work->histograms[pass][i], s.bins[i]);
    });
  }
};

// How many rows of each run are above the last cut and inside it.
//
//   grid      at most kRuns blocks of 256 threads, each with its run of rows
//   shared    6 KB; three running sums of 16 syncs
struct TallyRuns {
  static constexpr int threads = 256;
  struct Shared {
    int above[threads], inside[threads], more[threads];
    Choosing<threads> choosing;
  };

  Bounds rows;
  Work* work;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    const Cut cut = next_cut(block, s.choosing, *work, kPasses);
    const Run run = rows.run(block.index());
    block.each([&](int t) {
      s.above[t] = s.inside[t] = 0;
      run.each(run.begin + t, run.end, threads, [&](int64_t, double bound) {
        s.above[t] += cut.above(key_of(bound));
        s.inside[t] += cut.inside(key_of(bound));
      });
    });
    add_up(block, s.above, s.more);
    add_up(block, s.inside, s.more);
    block.each([&](int t) {
      if (t == threads - 1) work->tallies[block.index()] = {s.above[t], s.inside[t]};
    });
  }
};

// Writes the rows of the frontier in order; the best row left out of each run.
//
//   grid      as TallyRuns, one thread per consecutive rows, so that places follow their order
//   shared    13 KB; four running sums of 16 syncs
struct PlaceRows {
  static constexpr int threads = 256;
  struct Shared {
    int above[threads], inside[threads], more[threads];
    int above_before[threads], inside_before[threads];  // in earlier runs
    Key best[threads];
  };

  Bounds rows;
  Work* work;
  int64_t* out;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    const Cut cut = work->cuts[kPasses];
    const Run run = rows.run(block.index());
    const int64_t each = (rows.span + threads - 1) / threads;
    const auto rows_of = [&](int t, const auto& f) {
      const int64_t from = run.begin + t * each, to = from + each;
      run.each(from, to < run.end ? to : run.end, 1, f);
    };
    block.each([&](int t) {
      s.above_before[t] = s.inside_before[t] = s.above[t] = s.inside[t] = 0;
      for (int64_t other = t; other < block.index(); other += threads) {
        s.above_before[t] += work->tallies[other].above;
        s.inside_before[t] += work->tallies[other].inside;
      }
      rows_of(t, [&](int64_t, double bound) {
        s.above[t] += cut.above(key_of(bound));
        s.inside[t] += cut.inside(key_of(bound));
      });
    });
    add_up(block, s.above_before, s.more);
    add_up(block, s.inside_before, s.more);
    add_up(block, s.above, s.more);
    add_up(block, s.inside, s.more);
    block.each([&](int t) {
      int above = s.above_before[threads - 1] + (t ? s.above[t - 1] : 0);
      int inside = s.inside_before[threads - 1] + (t ? s.inside[t - 1] : 0);
      s.best[t] = {kPicked, -1};
      rows_of(t, [&](int64_t row, double bound) {
        const bool higher = cut.above(key_of(bound)), equal = cut.inside(key_of(bound));
        const int taken = inside < cut.quota ? inside : cut.quota;  // of the bucket, before this
        const Key key = {bound, row};
        if (higher || (equal && inside < cut.quota))
          out[above + taken] = row;
        else if (key.beats(s.best[t]))
          s.best[t] = key;
        above += higher;
        inside += equal;
      });
    });
    keep_best(block, s.best);
    block.each([&](int t) {
      if (t == 0) work->best_left[block.index()] = s.best[0];
    });
  }
};

// How many rows there are, and the best of those left out.
//
//   grid      1 block of 256 threads
//   shared    7 KB; two running sums of 16 syncs
struct Finish {
  static constexpr int threads = 256;
  struct Shared {
    int above[threads], inside[threads], more[threads];
    Key best[threads];
  };

  Work* work;
  int64_t runs;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    const Cut cut = work->cuts[kPasses];
    block.each([&](int t) {
      s.above[t] = s.inside[t] = 0;
      s.best[t] = {kPicked, -1};
      for (int64_t run = t; run < runs; run += threads) {
        s.above[t] += work->tallies[run].above;
        s.inside[t] += work->tallies[run].inside;
        if (work->best_left[run].beats(s.best[t])) s.best[t] = work->best_left[run];
      }
    });
    add_up(block, s.above, s.more);
    add_up(block, s.inside, s.more);
    keep_best(block, s.best);
    block.each([&](int t) {
      if (t) return;
      const int inside = s.inside[threads - 1];
      work->found.count = s.above[threads - 1] + (inside < cut.quota ? inside : cut.quota);
      work->found.rival = s.best[0];
    });
  }
};

}  // namespace

const int64_t kFrontierBytes = sizeof(Work);

Frontier frontier(const Selection& selection, int64_t n, int64_t count, int64_t size, int64_t* rows,
                  int32_t* keys, void* memory, Stream stream) {
  Work* const work = static_cast<Work*>(memory);
  if (n == 0) return {0, {kPicked, -1}, {0, int32_t(count)}};
  constexpr int64_t kLeast = 2048;  // rows of a block
  const int64_t span = (n + kRuns - 1) / kRuns > kLeast ? (n + kRuns - 1) / kRuns : kLeast;
  const int64_t runs = (n + span - 1) / span, most = size < n ? size : n;
  const Bounds all = {selection.bounds, n, span};
  launch(Begin{work, int(most), int(count)}, kPasses * kBins / Begin::threads, stream);
  for (int pass = 0; pass < kPasses; ++pass) launch(CountDigit{all, work, pass}, runs, stream);
  launch(TallyRuns{all, work}, runs, stream);
  launch(PlaceRows{all, work, rows}, runs, stream);
  launch(Finish{work, runs}, 1, stream);
  mark_stale(selection, rows, &work->found.count, most, count, 0, keys, &work->found.stale, stream);
  Frontier found;
  to_host(&found, &work->found, sizeof found, stream);
  return found;
}

}  // namespace entroselect::cuda
