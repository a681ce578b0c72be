// Decides the pairs that the filter left open, in canonical float64.

#include <algorithm>

#include "kernels.h"

namespace entroselect::cuda {

namespace {

// The exact distance of every pair: into the row's bound (selection) or a place of its own
// (neighbours).
//
//   grid      blocks(pairs) of 256 threads, 8 threads per pair, which take pairs in turn
//   shared    none; 1 sync, 2 in the first block; pairs of one row share an atomic minimum, so any
//   order valid     rows and columns < 2^31
struct RecheckPairs {
  static constexpr int threads = 256, teams = threads / kLanes;
  using Shared = NoShared;

  Pairs pairs;
  Sides sides;
  Selection selection;  // without `picks`: neighbours
  double* squared;
  int64_t* tally;  // of pairs; null: not wanted

  static int64_t blocks(int64_t pairs) {
    constexpr int64_t kMost = 16384;  // many times what a GPU runs at a time
    return std::min((pairs + teams - 1) / teams, kMost);
  }

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    const int64_t n = pairs.count(), step = block.count() * teams;
    if (tally && block.index() == 0)
      block.each([&](int t) {
        if (t == 0) add_to(tally, n);
      });
    each_team<kLanes>(block, [&](const Lanes& team) {
      for (int64_t place = block.index() * teams + team.index; place < n; place += step)
        decide(team, place);
    });
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
             Stream stream, int64_t* tally) {
  launch(RecheckPairs{pairs, sides, selection, squared, tally}, RecheckPairs::blocks(pairs.n),
         stream);
}

}  // namespace entroselect::cuda
