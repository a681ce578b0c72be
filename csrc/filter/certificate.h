// What the filter may conclude. The proofs are in docs/exactness.md; the constants are here.
//
// All quantities are in the frame of the filter: X = R scale (x - centre), R orthogonal, X~ the
// value of the row's code, residual >= ||X - X~||. A score is s = X~.Y~ - ||Y~||^2 / 2, so
// ||X~ - Y~||^2 = ||X~||^2 - 2 s.
#pragma once

#include <cstdint>
#include <limits>

namespace entroselect {

// A row of a panel; or upper bounds over several.
struct ColumnBounds {
  double norm = 0;
  double residual = 0;
};

// One row on the other side of the tile.
struct RowBounds {
  double norm2;
  double norm;
  double residual;
};

class Certificate {
 public:
  // `roundings`: the most roundings that any term of a score passes through.
  Certificate(int64_t d, double roundings, double scale);

  // The largest scaled distance a pair can have whose canonical squared distance is <= squared.
  double reach(double squared) const;

  // The same for a pair known to lie within the scaled distance `upper`: every pair whose
  // canonical value could be equal or smaller lies within the result.
  double widen(double upper) const;

  // The largest canonical squared distance of a pair within the scaled distance `upper`.
  double squared(double upper) const;

  // Scores below the result belong to pairs farther apart than `reach`.
  float threshold(const RowBounds& row, const ColumnBounds& column, double reach) const;

  // As threshold(), from the column's side: s - h below the result belongs to pairs farther apart
  // than `reach`, where h is ||X~||^2 / 2 as a float and `rows` bounds every row concerned.
  float limit(const RowBounds& rows, const ColumnBounds& column, double reach) const;

  // Interval of the scaled distance of a pair with this score.
  struct Interval {
    double lower, upper;
  };
  Interval interval(const RowBounds& row, const ColumnBounds& column, float score) const;

  // A bound from what was computed in float32.
  double residual(double computed, double norm2) const;

  double scale() const { return scale_; }

 private:
  double error(const RowBounds& row, const ColumnBounds& column) const;

  double scale_;
  double gamma_;      // relative error of a score's accumulation
  double coded_;      // relative error of a computed residual
  double flushed_;    // what flushing subnormal products to 0 can lose
  double small_;      // absolute error of it
  double canonical_;  // relative error of a canonical squared distance, with a margin
  double sums_;       // relative error of float64 sums (norms, residuals), with a margin
  double underflow_;  // absolute error of it, in the frame of the rows
  double scaled_underflow_;
};

}  // namespace entroselect
