// Decides the pairs that the filter left open, in canonical float64.

#include "kernels.h"

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

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    block.each([&](int t) {
      const int64_t place = block.index() * threads + t;
      if (place >= pairs.n) return;
      const bool dropped = too_far(place);
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
