// The host's loop over micro-blocks, the same for both ways of picking.
#pragma once

#include <algorithm>

#include "catch_up.cuh"

namespace entroselect::cuda {

// Settles picks until `state` says that nothing more can be settled, and returns it. A step fills
// the micro-block (`take`), makes its rows' bounds and distances exact and picks among them
// (`settle`). Several steps are queued, about as many as that many rows take, and the host waits
// for the state only in between: once it is finished, the kernels that are still queued return at
// once.
template <class Take, class Settle>
State settle_micro_blocks(State state, int64_t rows, const Selection& selection,
                          const Scratch& scratch, const Take& take, const Settle& settle,
                          Stream stream) {
  // A step uses up about half a micro-block's rows; the last finds none.
  const int64_t steps = std::min<int64_t>(16, 2 + rows / (kMicro / 2));
  constexpr int kSplits = kWide / 16;  // teams that share one row's unmet picks
  to_device(scratch.state, &state, sizeof state, stream);
  while (!state.finished) {
    for (int64_t step = 0; step < steps; ++step) {
      launch(take, 1, stream);
      launch(CatchUp{selection, scratch.state, scratch.micro, kSplits},
             CatchUp::blocks(kMicro, kSplits), stream);
      launch(Between{selection, scratch}, Between::blocks(), stream);
      launch(settle, 1, stream);
    }
    to_host(&state, scratch.state, sizeof state, stream);
  }
  return state;
}

}  // namespace entroselect::cuda
