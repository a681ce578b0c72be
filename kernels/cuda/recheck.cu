// Decides the pairs that the filter left open, in canonical float64.

#include "open_pairs.cuh"

namespace entroselect::cuda {

namespace {

// Pairs whose certified lower bound is beyond the row's final reach are dropped, the others get
// their exact distance: into the row's bound (selection) or a place of their own (neighbours).
//
//   grid      OpenPairs::blocks_for(pairs) of 256 threads
//   shared    1 KB; pairs of one row share an atomic minimum, so any order
//   valid     rows and columns < 2^31
struct RecheckPairs {
  static constexpr int threads = 256;
  using Shared = OpenPairs;

  Pairs pairs;
  Sides sides;
  Selection selection;  // without `picks`: neighbours
  double* squared;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& open) const {
    const auto keep = [&](int64_t place) {
      const bool kept = !too_far(pairs, sides, place);
      if (!kept && !selection.picks) squared[place] = double(INFINITY);
      return kept;
    };
    open.each(block, pairs, keep, [&](const Lanes& team, int64_t place) { decide(team, place); });
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
  launch(RecheckPairs{pairs, sides, selection, squared}, OpenPairs::blocks_for(pairs), stream);
}

}  // namespace entroselect::cuda
