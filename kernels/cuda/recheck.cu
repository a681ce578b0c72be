// Decides the pairs that the filter left open, in canonical float64.

#include <algorithm>

#include "kernels.h"

namespace entroselect::cuda {

namespace {

// Pairs whose certified lower bound is beyond the row's final reach are dropped, the others get
// their exact distance: into the row's bound (selection) or a place of their own (neighbours).
//
//   grid      blocks(pairs) of 256 threads, which take 128 pairs at a time: a thread looks whether
//             its pair is dropped, then a team of 8 threads per pair that is not computes
//             distances, so that no warp waits for a few of its lanes
//   shared    1 KB; 3 syncs per 128 pairs; pairs of one row share an atomic minimum, so any order
//   valid     rows and columns < 2^31
struct RecheckPairs {
  static constexpr int threads = 256, teams = threads / kLanes, at_once = 128;
  struct Shared {
    int64_t place[at_once];  // of pairs that are not dropped
    int kept;
  };

  Pairs pairs;
  Sides sides;
  Selection selection;  // without `picks`: neighbours
  double* squared;

  // The mirror of the filter's test in kernels/triton/filter.py, in float64; `slack` covers the
  // roundings of its inputs to float32.
  ENTROSELECT_ANY bool too_far(int64_t place) const {
    constexpr double kSlack = 0x1p-20;
    const int64_t slot = pairs.slot[place], column = pairs.column[place];
    const int64_t x = sides.index ? sides.index[slot] : slot;
    const double score = double(pairs.score[place]), norm2 = double(sides.rows.norm2[x]);
    const double y_norm = double(sides.columns.norm[column]);
    const double error =
        sides.gamma * (double(sides.rows.norm[x]) * y_norm + 0.5 * y_norm * y_norm);
    const double low = norm2 - 2 * score - 2 * error - kSlack * (norm2 + 2 * fabs(score));
    const double slack = double(sides.rows.residual[x]) + double(sides.columns.residual[column]);
    const double distance = (low <= 0 ? 0.0 : sqrt(low)) * (1 - kSlack) - slack * (1 + kSlack);
    return distance > double(sides.reach[slot]);  // false for NaN
  }

  static int64_t blocks(int64_t pairs) {
    constexpr int64_t kMost = 4096;  // several times what a GPU runs at a time
    return std::min((pairs + at_once - 1) / at_once, kMost);
  }

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    const int64_t n = pairs.count();
    for (int64_t first = block.index() * at_once; first < n; first += block.count() * at_once) {
      block.each([&](int t) {
        if (t == 0) s.kept = 0;
      });
      block.each([&](int t) {
        const int64_t place = first + t;
        if (t >= at_once || place >= n) return;
        if (!too_far(place))
          s.place[increment(&s.kept)] = place;
        else if (!selection.picks)
          squared[place] = double(INFINITY);
      });
      const int kept = s.kept;
      each_team<kLanes>(block, [&](const Lanes& team) {
        for (int i = team.index; i < kept; i += teams) decide(team, s.place[i]);
      });
    }
  }

  ENTROSELECT_ANY void decide(const Lanes& team, int64_t place) const {
    const int64_t row = sides.row[pairs.slot[place]], column = pairs.column[place];
    const double found = selection.picks
                             ? selection.distance_to(team, row, column)
                             : distance(team, selection.pool, column, selection.given, row);
    if (!team.leads()) return;
    if (selection.picks)
      lower(&selection.bounds[row], found);
    else
      squared[place] = found;
  }
};

}  // namespace

void recheck(const Pairs& pairs, const Sides& sides, const Selection& selection, double* squared,
             Stream stream) {
  launch(RecheckPairs{pairs, sides, selection, squared}, RecheckPairs::blocks(pairs.n), stream);
}

}  // namespace entroselect::cuda
