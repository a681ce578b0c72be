#pragma once

#include "state.cuh"

namespace entroselect::cuda {

// Lowers the bounds of state->micro rows to their exact distances to every pick they have not
// met; leaves `met` as it is.
//
//   grid      ceil(rows * splits / 256) blocks of 256 threads, one thread per `splits`-th
//             unmet pick of one row
//   shared    none; no syncs; threads of one row share an atomic minimum, so any order
//   valid     picks < 2^31
struct CatchUp {
  static constexpr int threads = 256;
  using Shared = NoShared;

  Selection selection;
  const State* state;
  const int64_t* rows;
  int splits;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    if (state->finished) return;
    block.each([&](int t) {
      const int64_t place = block.index() * threads + t, at = place / splits;
      if (at >= state->micro) return;
      const int64_t row = rows[at];
      double nearest = peek(&selection.bounds[row]);
      if (nearest <= 0) return;  // no pick can lower it
      for (int64_t c = selection.met[row] + place % splits; c < state->count; c += splits) {
        const double squared = selection.distance_to(row, c);
        if (squared < nearest) nearest = squared;
      }
      lower(&selection.bounds[row], nearest);
    });
  }
};

// All distances within the micro-block.
//
//   grid      kMicro * kMicro / 256 blocks of 256 threads, one thread per pair; half of them work
//   shared    none; no syncs
struct Between {
  static constexpr int threads = 256;
  using Shared = NoShared;

  Selection selection;
  Scratch scratch;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    const State& state = *scratch.state;
    if (state.finished) return;
    block.each([&](int t) {
      const int64_t place = block.index() * threads + t, i = place / kMicro, j = place % kMicro;
      if (i >= j || j >= state.micro) return;
      const double squared =
          distance(selection.pool, scratch.micro[i], selection.pool, scratch.micro[j]);
      scratch.between[i * kMicro + j] = scratch.between[j * kMicro + i] = squared;
    });
  }
};

}  // namespace entroselect::cuda
