// Rows of a list whose bounds are large enough, in the list's order.

#include <algorithm>

#include "kernels.h"

namespace entroselect::cuda {

namespace {

constexpr int kRuns = 1024;  // blocks at most, each with its run of the list

struct List {
  const double* bounds;
  const int64_t* rows;
  int64_t n, span;
  Key least;

  // f(place, row, bound) for every `step`-th place of [from, to) whose row beats the least.
  template <class F>
  ENTROSELECT_ANY void each(int64_t from, int64_t to, int64_t step, const F& f) const {
    constexpr int kLoads = 4;  // in flight
    for (int64_t i = from; i < to; i += kLoads * step) {
      Key keys[kLoads];
      for (int j = 0; j < kLoads; ++j) {
        const int64_t place = i + j * step;
        const int64_t row = place < to ? rows[place] : -1;
        keys[j] = {row >= 0 ? bounds[row] : kPicked, row};
      }
      for (int j = 0; j < kLoads; ++j)
        if (keys[j].bound >= 0 && keys[j].beats(least)) f(i + j * step, keys[j]);
    }
  }

  ENTROSELECT_ANY int64_t begin(int64_t run) const { return run * span; }
  ENTROSELECT_ANY int64_t end(int64_t run) const {
    return begin(run) + span < n ? begin(run) + span : n;
  }
};

// How many rows of each run are large enough.
//
//   grid      at most kRuns blocks of 256 threads, each with its run of the list
//   shared    2 KB; a running sum of 16 syncs
struct CountRows {
  static constexpr int threads = 256;
  struct Shared {
    int found[threads], more[threads];
  };

  List list;
  int* tallies;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    const int64_t begin = list.begin(block.index()), end = list.end(block.index());
    block.each([&](int t) {
      s.found[t] = 0;
      list.each(begin + t, end, threads, [&](int64_t, const Key&) { ++s.found[t]; });
    });
    add_up(block, s.found, s.more);
    block.each([&](int t) {
      if (t == threads - 1) tallies[block.index()] = s.found[t];
    });
  }
};

// Writes the first `size` of them.
//
//   grid      as CountRows, one thread per consecutive places, so that the order stays
//   shared    3 KB; two running sums of 16 syncs
struct KeepRows {
  static constexpr int threads = 256;
  struct Shared {
    int before[threads], found[threads], more[threads];
  };

  List list;
  const int* tallies;
  int64_t size;
  int64_t* out;
  double* bounds;
  Candidates* candidates;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    const int64_t begin = list.begin(block.index()), end = list.end(block.index());
    const int64_t each = (list.span + threads - 1) / threads;
    const auto rows_of = [&](int t, const auto& f) {
      const int64_t from = begin + t * each, to = from + each;
      list.each(from, to < end ? to : end, 1, f);
    };
    block.each([&](int t) {
      s.before[t] = s.found[t] = 0;
      for (int64_t other = t; other < block.index(); other += threads)
        s.before[t] += tallies[other];
      rows_of(t, [&](int64_t, const Key&) { ++s.found[t]; });
    });
    add_up(block, s.before, s.more);
    add_up(block, s.found, s.more);
    block.each([&](int t) {
      int64_t at = s.before[threads - 1] + (t ? s.found[t - 1] : 0);
      rows_of(t, [&](int64_t place, const Key& key) {
        if (at < size) {
          out[at] = key.row;
          if (bounds) bounds[at] = key.bound;
        }
        if (++at == size) candidates->stop = place + 1;
      });
      if (t < threads - 1 || block.index() < block.count() - 1) return;
      candidates->count = at < size ? at : size;
      if (at < size) candidates->stop = list.n;
    });
  }
};

}  // namespace

void candidates(const Selection& selection, const int64_t* rows, int64_t n, Key least, int64_t size,
                int64_t* out, double* bounds, Candidates* candidates, void* memory, Stream stream) {
  constexpr int64_t kLeast = 1024;  // places of a run
  const int64_t span = std::max((n + kRuns - 1) / kRuns, kLeast);
  const int64_t runs = std::max((n + span - 1) / span, int64_t(1));
  int* const tallies = static_cast<int*>(memory);
  static_assert(kRuns * sizeof(int) <= 4096, "the memory that is asked for");
  const List list = {selection.bounds, rows, n, span, least};
  launch(CountRows{list, tallies}, runs, stream);
  launch(KeepRows{list, tallies, size, out, bounds, candidates}, runs, stream);
}

}  // namespace entroselect::cuda
