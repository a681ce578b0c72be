// Threshold filter inside a block: rows in traversal order, accepted where their exact bound still
// reaches the floor.

#include "kernels.h"
#include "micro_block.cuh"
#include "settle.cuh"

namespace entroselect::cuda {

namespace {

// Takes the next kMicro rows whose (stale) bound reaches the floor.
//
//   grid      1 block of kWide threads, one window of rows after another
//   shared    8 KB
//   valid     floor >= 0, so that picked rows never reach it
struct TakeNext {
  static constexpr int threads = kWide;
  struct Shared {
    int a[threads], b[threads];
    int64_t stop;
  };

  Selection selection;
  Scratch scratch;
  const int64_t* rows;
  int64_t n;
  int64_t limit;
  double floor;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    State& state = *scratch.state;
    if (state.finished) return;
    int64_t at = state.at;
    int found = state.picked < limit ? 0 : kMicro;  // enough already
    const bool enough = found > 0;
    block.sync();  // every thread has read the state that is written below
    while (found < kMicro && at < n) {
      block.each([&](int t) {
        s.a[t] = at + t < n && selection.bounds[rows[at + t]] >= floor;
        if (t == 0) s.stop = at + threads;
      });
      add_up(block, s.a, s.b);
      block.each([&](int t) {
        const int before = t ? s.a[t - 1] : 0;
        if (s.a[t] == before || found + before >= kMicro) return;
        scratch.micro[found + before] = rows[at + t];
        if (found + before == kMicro - 1) s.stop = at + t + 1;
      });
      found += s.a[threads - 1];
      at = s.stop;
      block.sync();
    }
    block.each([&](int t) {
      if (t) return;
      state.at = at < n ? at : n;
      state.micro = enough ? 0 : found < kMicro ? found : kMicro;
      state.finished = state.micro == 0;
    });
  }
};

// Accepts rows of the micro-block in their order.
//
//   grid      1 block of kMicro threads, one thread per row; the rows' bounds must have met every
//             pick and their distances lie in scratch.between
//   shared    4 KB; per pick 3 syncs
struct SettleInOrder {
  static constexpr int threads = kMicro;
  using Shared = MicroRows;

  Selection selection;
  Scratch scratch;
  int64_t limit;
  double floor;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    State& state = *scratch.state;
    if (state.finished) return;
    const int64_t count = state.count, picked = state.picked;
    block.each([&](int t) {
      s.load(selection, scratch, t);
      s.active[t] = s.active[t] && s.bound[t] >= floor;
    });
    int64_t made = 0;
    while (picked + made < limit) {
      // The first that still reaches the floor: all of these keys are equal but for the place.
      block.each(
          [&](int t) { s.best[t] = {s.active[t] && s.bound[t] >= floor ? 1.0 : kPicked, t}; });
      const Key first = find_best(block, s.best);
      if (first.bound < 0) break;
      block.each([&](int t) {
        s.pick(selection, scratch, t, int(first.row), count + made, picked + made);
      });
      ++made;
    }
    block.each([&](int t) {
      s.keep(selection, t, count + made);
      if (t) return;
      state.count = count + made;
      state.picked = picked + made;
    });
  }
};

}  // namespace

int64_t in_order(const Selection& selection, const Scratch& scratch, const int64_t* rows, int64_t n,
                 int64_t count, int64_t limit, double floor, Stream stream) {
  const State start = {count, 0, 0, 0, 0, -1, {}, {}};
  const State end = settle_micro_blocks(start, n, selection, scratch,
                                        TakeNext{selection, scratch, rows, n, limit, floor},
                                        SettleInOrder{selection, scratch, limit, floor}, stream);
  return end.picked;
}

}  // namespace entroselect::cuda
