#pragma once

#include "state.cuh"

namespace entroselect::cuda {

// A micro-block while picks are settled among its rows, one thread per row: in shared memory.
struct MicroRows {
  int64_t row[kMicro];
  double bound[kMicro];
  bool active[kMicro];  // may be picked in this step; others keep their stale bound
  Key best[kMicro];

  // Loads row t, which must have met every pick; the caller sets whether it is active.
  ENTROSELECT_ANY void load(const Selection& selection, const Scratch& scratch, int t) {
    active[t] = t < scratch.state->micro;
    if (!active[t]) return;
    row[t] = scratch.micro[t];
    bound[t] = selection.bounds[row[t]];
    selection.met[row[t]] = int32_t(scratch.state->count);
  }

  // The row at `place` becomes pick number `pick`, number `since` of this call; row t, if active,
  // is compared with it.
  ENTROSELECT_ANY void pick(const Selection& selection, const Scratch& scratch, int t, int place,
                            int64_t pick, int64_t since) {
    if (t == place) {
      active[t] = false;
      selection.picks[pick] = row[t];
      selection.bounds[row[t]] = kPicked;
      scratch.squared[since] = bound[t];
    } else if (active[t]) {
      const double squared = scratch.between[place * kMicro + t];
      if (squared < bound[t]) bound[t] = squared;
    }
  }

  // Row t, if still active, has met every pick up to `count`.
  ENTROSELECT_ANY void keep(const Selection& selection, int t, int64_t count) const {
    if (!active[t]) return;
    selection.bounds[row[t]] = bound[t];
    selection.met[row[t]] = int32_t(count);
  }
};

}  // namespace entroselect::cuda
