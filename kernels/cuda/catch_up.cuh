#pragma once

#include "state.cuh"

namespace entroselect::cuda {

// Lowers the bounds of state->micro rows to their exact distances to every pick they have not
// met; leaves `met` as it is.
//
//   grid      blocks(rows, splits) of 256 threads, a team of 8 threads per `splits`-th unmet pick
//             of one row
//   shared    none; no syncs; teams of one row share an atomic minimum, so any order
//   valid     picks < 2^31
struct CatchUp {
  static constexpr int threads = 256, teams = threads / kLanes;
  using Shared = NoShared;

  Selection selection;
  const State* state;
  const int64_t* rows;
  int splits;

  static int64_t blocks(int64_t rows, int64_t splits) {
    return (rows * splits + teams - 1) / teams;
  }

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    if (state->finished) return;
    each_team<kLanes>(block, [&](const Lanes& team) {
      const int64_t place = block.index() * teams + team.index, at = place / splits;
      if (at >= state->micro) return;
      const int64_t row = rows[at];
      const double bound = team.same(peek(&selection.bounds[row]));
      if (bound <= 0) return;  // no pick can lower it
      double nearest = bound;
      for (int64_t c = selection.met[row] + place % splits; c < state->count; c += splits) {
        const double squared = selection.distance_to(team, row, c);
        if (squared < nearest) nearest = squared;
      }
      if (team.leads() && nearest < bound) lower(&selection.bounds[row], nearest);
    });
  }
};

// All distances within the micro-block.
//
//   grid      blocks() of 256 threads, a team of 8 threads per pair
//   shared    none; no syncs
struct Between {
  static constexpr int threads = 256, teams = threads / kLanes;
  using Shared = NoShared;

  Selection selection;
  Scratch scratch;

  static int64_t blocks() { return (kMicro / 2 * (kMicro - 1) + teams - 1) / teams; }

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    const State& state = *scratch.state;
    if (state.finished) return;
    each_team<kLanes>(block, [&](const Lanes& team) {
      // Line i of the triangle i < j and line kMicro - 1 - i make up kMicro - 1 pairs.
      const int64_t place = block.index() * teams + team.index;
      const int64_t line = place / (kMicro - 1), at = place % (kMicro - 1);
      const bool upper = at >= line;
      const int64_t i = upper ? line : kMicro - 1 - line, j = upper ? at + 1 : kMicro - 1 - at;
      if (line >= kMicro / 2 || j >= state.micro) return;
      const double squared =
          distance(team, selection.pool, scratch.micro[i], selection.pool, scratch.micro[j]);
      if (team.leads()) scratch.between[i * kMicro + j] = scratch.between[j * kMicro + i] = squared;
    });
  }
};

}  // namespace entroselect::cuda
