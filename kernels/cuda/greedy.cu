// Farthest-first inside a block: a few kernels settle hundreds of picks between two looks of the
// host at the state. The proof is that of docs/exactness.md, "The block".

#include "kernels.h"
#include "micro_block.cuh"
#include "settle.cuh"

namespace entroselect::cuda {

namespace {

// Takes up to kMicro of the block's rows that beat the rival, the best by their (stale) bounds, in
// order of rows; the best of those left out becomes the inner rival.
//
//   grid      1 block of kWide threads; the block's rows must ascend
//   shared    29 KB; 10 syncs per running sum, three sums, four syncs per step of the search
//   method    a radix search for a cut that at most kMicro keys reach, 8 bits per step, ended when
//             at least half of kMicro do; equal keys are taken from the front
//   valid     any number of rows; bounds >= 0 or kPicked
struct TakeBest {
  static constexpr int threads = kWide;
  struct Shared {
    int a[threads], b[threads], ties[threads], digits[256];
    Key best[threads];
    uint64_t low;
    int above;
  };

  Selection selection;
  Scratch scratch;
  const int64_t* rows;
  int64_t n;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    State& state = *scratch.state;
    if (state.finished) return;
    uint64_t* keys = scratch.keys;
    block.each([&](int t) {
      s.a[t] = 0;
      for (int64_t i = t; i < n; i += threads) {
        const Key key = {selection.bounds[rows[i]], rows[i]};
        keys[i] = key.bound >= 0 && key.beats(state.rival) ? bits_of(key.bound) + 1 : 0;
        s.a[t] += keys[i] != 0;
      }
    });
    add_up(block, s.a, s.b);
    const int total = s.a[threads - 1];
    block.sync();
    uint64_t cut = 1, equal = 0;  // members: keys from `cut` on, and the first `quota` of `equal`
    int quota = 0;
    if (total > kMicro) search(block, s, &cut, &equal, &quota);

    // A thread looks at a run of rows, so that places follow the order of rows.
    const int64_t run = (n + threads - 1) / threads;
    const auto each_of = [&](int t, const auto& f) {
      for (int64_t i = t * run; i < n && i < (t + 1) * run; ++i) f(i);
    };
    block.each([&](int t) {
      s.a[t] = 0;
      each_of(t, [&](int64_t i) { s.a[t] += quota > 0 && keys[i] == equal; });
    });
    add_up(block, s.a, s.b);
    block.each([&](int t) {
      int ties = s.ties[t] = t ? s.a[t - 1] : 0;  // before this thread's run
      s.b[t] = 0;
      each_of(t, [&](int64_t i) {
        s.b[t] += keys[i] >= cut || (quota > 0 && keys[i] == equal && ties++ < quota);
      });
    });
    add_up(block, s.b, s.a);
    place(block, s, each_of, cut, equal, quota);
  }

 private:
  template <class AnyBlock>
  ENTROSELECT_ANY void search(const AnyBlock& block, Shared& s, uint64_t* cut, uint64_t* equal,
                              int* quota) const {
    uint64_t low = 0;
    int above = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
      block.each([&](int t) {
        for (int digit = t; digit < 256; digit += threads) s.digits[digit] = 0;
      });
      block.each([&](int t) {
        for (int64_t i = t; i < n; i += threads) {
          const uint64_t key = scratch.keys[i];
          if (key && (shift == 56 || key >> (shift + 8) == low >> (shift + 8)))
            increment(&s.digits[key >> shift & 255]);
        }
      });
      block.each([&](int t) {
        if (t >= 16) return;
        s.a[t] = 0;
        for (int i = 0; i < 16; ++i) s.a[t] += s.digits[16 * t + i];
      });
      // The digit at which more than kMicro keys are reached, from the largest on.
      block.each([&](int t) {
        for (int digit = t; digit < 256; digit += threads) {
          int reached = above;
          for (int i = 15; i > digit / 16; --i) reached += s.a[i];
          for (int i = digit | 15; i > digit; --i) reached += s.digits[i];
          if (reached > kMicro || reached + s.digits[digit] <= kMicro) continue;
          s.above = reached;
          s.low = low | uint64_t(digit) << shift;
        }
      });
      low = s.low;
      above = s.above;
      if (above >= kMicro / 2) {
        *cut = low + (uint64_t(1) << shift);
        return;
      }
    }
    *cut = low + 1;
    *equal = low;
    *quota = kMicro - above;
  }

  template <class AnyBlock, class EachOf>
  ENTROSELECT_ANY void place(const AnyBlock& block, Shared& s, const EachOf& each_of, uint64_t cut,
                             uint64_t equal, int quota) const {
    State& state = *scratch.state;
    block.each([&](int t) {
      int at = t ? s.b[t - 1] : 0, ties = s.ties[t];
      Key out = {kPicked, 0};
      each_of(t, [&](int64_t i) {
        const uint64_t key = scratch.keys[i];
        if (key >= cut || (quota > 0 && key == equal && ties++ < quota)) {
          scratch.micro[at++] = rows[i];
        } else if (key) {
          const Key other = {selection.bounds[rows[i]], rows[i]};
          if (other.beats(out)) out = other;
        }
      });
      s.best[t] = out;
    });
    const Key best = find_best(block, s.best);
    block.each([&](int t) {
      if (t) return;
      state.micro = s.b[threads - 1];
      state.inner = best.bound >= 0 ? best : state.rival;
      if (state.micro == 0) {  // the rival comes next
        state.finished = 1;
        state.next = -1;
      }
    });
  }
};

// Picks rows of the micro-block, farthest first, while they beat the inner rival.
//
//   grid      1 block of kMicro threads, one thread per row; the rows' bounds must have met every
//             pick and their distances lie in scratch.between
//   shared    4 KB; per pick 3 syncs
struct SettleFarthest {
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
    const Key inner = state.inner;
    block.each([&](int t) {
      s.load(selection, scratch, t);
      s.active[t] = s.active[t] && Key{s.bound[t], s.row[t]}.beats(inner);
    });
    int64_t made = 0;
    double next = -1;
    for (;;) {
      block.each([&](int t) {  // places ascend as rows do
        const bool wins = s.active[t] && Key{s.bound[t], s.row[t]}.beats(inner);
        s.best[t] = {wins ? s.bound[t] : kPicked, t};
      });
      const Key best = find_best(block, s.best);
      if (best.bound < 0) break;  // no row here is certain to come next
      if (picked + made == limit || best.bound < floor) {
        next = best.bound;
        break;
      }
      block.each([&](int t) {
        s.pick(selection, scratch, t, int(best.row), count + made, picked + made);
      });
      ++made;
    }
    block.each([&](int t) {
      s.keep(selection, t, count + made);
      if (t) return;
      state.count = count + made;
      state.picked = picked + made;
      state.next = next;
      state.finished = next >= 0;
    });
  }
};

}  // namespace

Settled farthest_first(const Selection& selection, const Scratch& scratch, const int64_t* rows,
                       int64_t n, int64_t count, Key rival, int64_t limit, double floor,
                       Stream stream) {
  const State start = {count, 0, 0, 0, 0, -1, rival, rival};
  const State end =
      settle_micro_blocks(start, n, selection, scratch, TakeBest{selection, scratch, rows, n},
                          SettleFarthest{selection, scratch, limit, floor}, stream);
  return {end.picked, end.next};
}

}  // namespace entroselect::cuda
