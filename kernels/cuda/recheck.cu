// Decides the pairs that the filter left open, in canonical float64.

#include "open_pairs.cuh"

namespace entroselect::cuda {

namespace {

// Pairs whose certified lower bound is beyond the row's final reach are dropped, the others get
// their exact distance: into the row's bound (selection) or a place of their own (neighbours).
//
//   grid      ceil(pairs / 256) blocks of 256 threads, one thread per pair
//   shared    none; no syncs; pairs of one row share an atomic minimum, so any order
//   valid     rows and columns < 2^31
struct RecheckPairs {
  static constexpr int threads = 256;
  using Shared = NoShared;

  Pairs pairs;
  Sides sides;
  Selection selection;  // without `picks`: neighbours
  double* squared;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    block.each([&](int t) {
      const int64_t place = block.index() * threads + t;
      if (place >= pairs.n) return;
      const bool dropped = too_far(pairs, sides, place);
      const int64_t row = sides.row[pairs.slot[place]], column = pairs.column[place];
      if (selection.picks) {
        if (!dropped) lower(&selection.bounds[row], selection.distance_to(row, column));
      } else {
        squared[place] =
            dropped ? double(INFINITY) : distance(selection.pool, column, selection.given, row);
      }
    });
  }
};

}  // namespace

void recheck(const Pairs& pairs, const Sides& sides, const Selection& selection, double* squared,
             Stream stream) {
  launch(RecheckPairs{pairs, sides, selection, squared},
         (pairs.n + RecheckPairs::threads - 1) / RecheckPairs::threads, stream);
}

}  // namespace entroselect::cuda
