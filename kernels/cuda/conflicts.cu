// Farthest-first among rows that are all up to date, from the few pairs of them that conflict. Many
// rows are picked in one step, without an order: docs/exactness.md, "Conflicts".

#include <algorithm>

#include "open_pairs.cuh"

namespace entroselect::cuda {

namespace {

// Kernels that stride over candidates or conflicts: enough blocks to fill a GPU.
constexpr int kThreads = kWide / 4, kBlocks = 264;

int64_t blocks_for(const Conflicts& conflicts) {
  return std::min<int64_t>(kBlocks, (8 * conflicts.n + kThreads - 1) / kThreads);
}

// Steps of many blocks before those of one, which then has few conflicts left.
constexpr int kSteps = 4;

template <class AnyBlock, class F>
ENTROSELECT_ANY void stride_over(const AnyBlock& block, int64_t n, const F& f) {
  block.each([&](int t) {
    const int64_t threads = AnyBlock::threads;
    for (int64_t i = block.index() * threads + t; i < n; i += block.count() * threads) f(i);
  });
}

// What the kernels below do to one candidate or to one conflict.
struct Steps {
  Conflicts of;

  // False where there is nothing to rely on.
  ENTROSELECT_ANY bool usable() const {
    return peek(&of.outcome->unfit) == 0 && peek(&of.outcome->conflicts) <= of.capacity;
  }

  ENTROSELECT_ANY int64_t conflicts() const { return peek(&of.outcome->conflicts); }

  // Conflicts that are left at the start of a step; all, at the start of the first.
  ENTROSELECT_ANY int64_t left(int step, int64_t i) const {
    return step == 1 ? i : of.left[(step & 1) * of.capacity + i];
  }
  ENTROSELECT_ANY int64_t all_left(int step) const {
    return peek(step == 1 ? &of.outcome->conflicts : left_count(step));
  }
  ENTROSELECT_ANY int32_t* left_count(int step) const { return &of.outcome->left[step & 1]; }

  // Places ascend as rows do.
  ENTROSELECT_ANY Key key(int32_t place) const { return {peek(&of.value[place]), place}; }

  ENTROSELECT_ANY bool beats_rival(int32_t place) const {
    return Key{peek(&of.value[place]), of.rows[place]}.beats(of.rival);
  }

  // The worse of the two has to wait.
  ENTROSELECT_ANY void block_one(int64_t conflict, int step) const {
    const Conflict& pair = of.pairs[conflict];
    const bool first_waits = key(pair.second).beats(key(pair.first));
    put(&of.blocked[first_waits ? pair.first : pair.second], step);
  }

  // Picks the row if nothing that conflicts with it comes before it.
  ENTROSELECT_ANY void pick(int64_t place, int step) const {
    if (of.turn[place] == 0 && of.blocked[place] != step && beats_rival(int32_t(place)))
      of.turn[place] = step;
  }

  // A pick lowers the other row. If neither is picked and both may still be, the conflict is left
  // for the next step.
  ENTROSELECT_ANY void lower_one(int64_t conflict, int step) const {
    const Conflict& pair = of.pairs[conflict];
    if (of.turn[pair.first]) {
      lower(&of.value[pair.second], pair.squared);
    } else if (of.turn[pair.second]) {
      lower(&of.value[pair.first], pair.squared);
    } else if (beats_rival(pair.first) && beats_rival(pair.second)) {
      const int at = increment(left_count(step + 1));
      of.left[((step + 1) & 1) * of.capacity + at] = int32_t(conflict);
    }
  }
};

// Loads the candidates' bounds, and looks whether they are up to date.
//
//   grid      up to kBlocks blocks of kThreads, which stride over the candidates
//   shared    none; no syncs
struct Begin {
  static constexpr int threads = kThreads;
  using Shared = NoShared;

  Selection selection;
  Conflicts of;
  int64_t count;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    stride_over(block, of.n, [&](int64_t i) {
      const int64_t row = of.rows[i];
      of.value[i] = selection.bounds[row];
      of.blocked[i] = of.turn[i] = 0;
      if (selection.met[row] < count && of.value[i] > 0) put(&of.outcome->unfit, 1);
    });
  }
};

// Lists the pairs whose canonical distance is below the smaller bound, that of the pair's row: it
// is compared with better rows only.
//
//   grid      OpenPairs::blocks_for(pairs) of 256 threads
//   shared    1 KB; an atomic counter: any order of the list gives the same picks
//   valid     candidates < 2^31
struct FindConflicts {
  static constexpr int threads = 256;
  using Shared = OpenPairs;

  Selection selection;
  Conflicts of;
  const int64_t* order;
  Pairs pairs;
  Sides sides;
  Room room;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& open) const {
    if (room.exceeded()) {
      block.each([&](int t) {
        if (t == 0) put(&of.outcome->unfit, 1);
      });
      return;
    }
    if (peek(&of.outcome->unfit)) return;
    const auto keep = [&](int64_t pair) {
      const bool room = peek(&of.outcome->conflicts) <= of.capacity;
      return room && pairs.column[pair] > row(pair);
    };
    open.each(block, pairs, keep, [&](const Lanes& team, int64_t pair) {
      const int64_t i = order[pairs.column[pair]], j = order[row(pair)];
      const double squared = distance(team, selection.pool, of.rows[i], selection.pool, of.rows[j]);
      if (!team.leads() || squared >= of.value[j]) return;
      const int at = increment(&of.outcome->conflicts);
      if (at < of.capacity) of.pairs[at] = {int32_t(i), int32_t(j), squared};
    });
  }

 private:
  ENTROSELECT_ANY int64_t row(int64_t pair) const { return sides.row[pairs.slot[pair]]; }
};

// The three phases of a step, by many blocks.
//
//   grid      up to kBlocks blocks of kThreads, which stride over candidates or conflicts
//   shared    none; no syncs; values only fall, by an atomic minimum: any order gives the same
struct StepPhase {
  static constexpr int threads = kThreads;
  using Shared = NoShared;

  Steps steps;
  int step;
  enum { blocks, picks, lowers } phase;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    if (!steps.usable()) return;
    if (phase == picks) {
      stride_over(block, steps.of.n, [&](int64_t i) {
        steps.pick(i, step);
        if (i == 0) put(steps.left_count(step + 1), 0);
      });
      return;
    }
    stride_over(block, steps.all_left(step), [&](int64_t i) {
      if (phase == blocks)
        steps.block_one(steps.left(step, i), step);
      else
        steps.lower_one(steps.left(step, i), step);
    });
  }
};

// All steps from `first` on, until no conflict is left.
//
//   grid      1 block of kWide threads
//   shared    none; 3 syncs per step
//   valid     ends: in every step the best of the rows that have conflicts is picked or below the
//             rival, so at least one conflict is settled
struct FurtherSteps {
  static constexpr int threads = kWide;
  using Shared = NoShared;

  Steps steps;
  int first;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    if (!steps.usable()) return;
    for (int step = first; step - first <= steps.of.n; ++step) {
      const int64_t conflicts = steps.all_left(step);
      block.each([&](int t) {
        for (int64_t i = t; i < conflicts; i += threads) steps.block_one(steps.left(step, i), step);
        if (t == 0) put(steps.left_count(step + 1), 0);
      });
      block.each([&](int t) {
        for (int64_t i = t; i < steps.of.n; i += threads) steps.pick(i, step);
      });
      if (conflicts == 0) break;
      block.each([&](int t) {
        for (int64_t i = t; i < conflicts; i += threads) steps.lower_one(steps.left(step, i), step);
      });
    }
    block.each([&](int t) {
      for (int64_t i = t; i < steps.of.n; i += threads)
        if (steps.of.turn[i] == 0) steps.of.value[i] = kPicked;
    });
  }
};

// Notes the picks that are kept.
//
//   grid      up to kBlocks blocks of kThreads, which stride over the candidates
//   shared    none; no syncs
struct KeepPicks {
  static constexpr int threads = kThreads;
  using Shared = NoShared;

  Selection selection;
  Steps steps;
  const double* value;
  const int64_t* place;
  int64_t count, limit;
  double floor;
  int64_t* picks;
  double* squared;

  ENTROSELECT_ANY bool kept(int64_t i) const {
    return i < limit && value[i] >= 0 && value[i] >= floor;
  }

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    if (!steps.usable()) return;
    const int64_t n = steps.of.n;
    stride_over(block, n, [&](int64_t i) {
      if (kept(i)) {
        const int64_t row = steps.of.rows[place[i]];
        picks[i] = selection.picks[count + i] = row;
        squared[i] = value[i];
        selection.bounds[row] = kPicked;
      }
      if ((i == 0 || kept(i - 1)) && !kept(i)) end_with(i, value[i]);
      if (i == n - 1 && kept(i)) end_with(n, kPicked);
    });
  }

 private:
  ENTROSELECT_ANY void end_with(int64_t picked, double next) const {
    steps.of.outcome->picked = picked;
    steps.of.outcome->next = next;
  }
};

// Lowers the bounds of the other candidates to their distances to the picks that are kept: all
// others are no nearer.
//
//   grid      up to kBlocks blocks of kThreads, which stride over the candidates and the conflicts
//   shared    none; no syncs; an atomic minimum: any order gives the same
struct LowerOthers {
  static constexpr int threads = kThreads;
  using Shared = NoShared;

  Selection selection;
  Steps steps;
  int64_t count;

  ENTROSELECT_ANY bool picked(int64_t place) const {
    return peek(&selection.bounds[steps.of.rows[place]]) < 0;
  }

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    if (!steps.usable()) return;
    const int32_t met = int32_t(count + steps.of.outcome->picked);
    stride_over(block, steps.of.n, [&](int64_t i) {
      if (!picked(i)) selection.met[steps.of.rows[i]] = met;
    });
    stride_over(block, steps.conflicts(), [&](int64_t i) {
      const Conflict& pair = steps.of.pairs[i];
      if (picked(pair.first) == picked(pair.second)) return;
      const int32_t other = picked(pair.first) ? pair.second : pair.first;
      lower(&selection.bounds[steps.of.rows[other]], pair.squared);
    });
  }
};

}  // namespace

void begin_conflicts(const Selection& selection, const Conflicts& conflicts, int64_t count,
                     Stream stream) {
  launch(Begin{selection, conflicts, count}, blocks_for(conflicts), stream);
}

void add_conflicts(const Selection& selection, const Conflicts& conflicts, const int64_t* order,
                   const Pairs& pairs, const Sides& sides, Stream stream, const Room& room) {
  launch(FindConflicts{selection, conflicts, order, pairs, sides, room},
         OpenPairs::blocks_for(pairs), stream);
}

void pick_by_conflicts(const Conflicts& conflicts, Stream stream, int64_t many) {
  const Steps steps = {conflicts};
  const int shared = conflicts.n >= many ? kSteps : 0;
  for (int step = 1; step <= shared; ++step)
    for (auto phase : {StepPhase::blocks, StepPhase::picks, StepPhase::lowers})
      launch(StepPhase{steps, step, phase}, blocks_for(conflicts), stream);
  launch(FurtherSteps{steps, shared + 1}, 1, stream);
}

void keep_picks(const Selection& selection, const Conflicts& conflicts, const double* value,
                const int64_t* place, int64_t count, int64_t limit, double floor, int64_t* picks,
                double* squared, Stream stream) {
  const Steps steps = {conflicts};
  launch(KeepPicks{selection, steps, value, place, count, limit, floor, picks, squared},
         blocks_for(conflicts), stream);
  launch(LowerOthers{selection, steps, count}, blocks_for(conflicts), stream);
}

}  // namespace entroselect::cuda
