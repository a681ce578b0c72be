// The pairs that the filter left open.
#pragma once

#include <algorithm>

#include "kernels.h"

namespace entroselect::cuda {

// Whether a pair's certified lower bound is beyond its row's reach; `score` may be larger than the
// pair's own. The mirror of the filter's test in kernels/triton/filter.py, in float64; `slack`
// covers the roundings of its inputs to float32.
ENTROSELECT_ANY inline bool too_far(const Sides& sides, int64_t slot, int64_t column,
                                    double score) {
  constexpr double kSlack = 0x1p-20;
  const int64_t x = sides.index ? sides.index[slot] : slot;
  const double norm2 = double(sides.rows.norm2[x]), y_norm = double(sides.columns.norm[column]);
  const double error = sides.gamma * (double(sides.rows.norm[x]) * y_norm + 0.5 * y_norm * y_norm);
  const double low = norm2 - 2 * score - 2 * error - kSlack * (norm2 + 2 * fabs(score));
  const double slack = double(sides.rows.residual[x]) + double(sides.columns.residual[column]);
  const double distance = (low <= 0 ? 0.0 : sqrt(low)) * (1 - kSlack) - slack * (1 + kSlack);
  return distance > double(sides.reach[slot]);  // false for NaN
}

// Goes through all open pairs with blocks_for(pairs) blocks, each of which takes kAtOnce pairs at a
// time: a thread asks keep(place) for its pair, then a team of 8 threads calls decide(team, place)
// for each pair that is kept, so that no warp waits for a few of its lanes. 3 syncs per kAtOnce
// pairs.
struct OpenPairs {
  static constexpr int kAtOnce = 128;
  int64_t place[kAtOnce];  // of pairs that are kept
  int kept;

  static int64_t blocks_for(const Pairs& pairs) {
    constexpr int64_t kMost = 4096;  // several times what a GPU runs at a time
    return std::min((pairs.n + kAtOnce - 1) / kAtOnce, kMost);
  }

  template <class AnyBlock, class Keep, class Decide>
  ENTROSELECT_ANY void each(const AnyBlock& block, const Pairs& pairs, const Keep& keep,
                            const Decide& decide) {
    static_assert(AnyBlock::threads >= kAtOnce, "a thread for each pair");
    const int64_t n = pairs.count();
    for (int64_t first = block.index() * kAtOnce; first < n; first += block.count() * kAtOnce) {
      block.each([&](int t) {
        if (t == 0) kept = 0;
      });
      block.each([&](int t) {
        if (t < kAtOnce && first + t < n && keep(first + t)) place[increment(&kept)] = first + t;
      });
      const int end = kept;
      each_team<kLanes>(block, [&](const Lanes& team) {
        for (int i = team.index; i < end; i += AnyBlock::threads / kLanes) decide(team, place[i]);
      });
    }
  }
};

}  // namespace entroselect::cuda
