#include "filter/certificate.h"

#include <algorithm>
#include <cmath>

namespace entroselect {

namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Covers the handful of float64 roundings in this file.
constexpr double kUp = 1 + 0x1p-48;

// A float below t, not the nearest.
float float_below(double t) {
  t -= std::fabs(t) * 0x1p-22 + 0x1p-120;
  return t == t ? float(std::max(t, -0x1p126)) : -std::numeric_limits<float>::infinity();
}
}  // namespace

Certificate::Certificate(int64_t d, double roundings, double scale) : scale_(scale) {
  // Unit roundoff is 2^-24; 2^-23 also covers units that truncate.
  const double steps = roundings * 0x1p-23;
  gamma_ = steps < 0.5 ? steps / (1 - steps) : kInfinity;
  flushed_ = roundings * 0x1p-124;
  coded_ = (double(d) / 8 + 64) * 0x1p-23;
  small_ = std::sqrt(double(d)) * 0x1p-60;
  canonical_ = (double(d) / 8 + 16) * 0x1p-51;
  sums_ = (double(d) / 8 + 16) * 0x1p-52 + 0x1p-47;
  underflow_ = double(d + 16) * 0x1p-1073;
  scaled_underflow_ = scale * std::sqrt(4 * underflow_);
}

double Certificate::reach(double squared) const {
  return scale_ * std::sqrt(squared * (1 + canonical_) + underflow_) * kUp;
}

double Certificate::widen(double upper) const {
  return (upper * (1 + canonical_) + scaled_underflow_) * kUp;
}

double Certificate::squared(double upper) const {
  const double distance = upper / scale_;
  return (distance * distance * (1 + canonical_) + underflow_) * kUp;
}

double Certificate::error(const RowBounds& row, const ColumnBounds& column) const {
  return gamma_ * (row.norm * column.norm + 0.5 * column.norm * column.norm) + flushed_;
}

float Certificate::threshold(const RowBounds& row, const ColumnBounds& column, double reach) const {
  const double r = reach + row.residual + column.residual;
  const double error_here = error(row, column) + (row.norm2 + r * r) * sums_;
  return float_below(0.5 * (row.norm2 - r * r) - error_here);
}

float Certificate::limit(const RowBounds& rows, const ColumnBounds& column, double reach) const {
  const double r = reach + rows.residual + column.residual;
  // The last term covers the rounding of h; rounding s - h keeps the order.
  return float_below(-0.5 * r * r - error(rows, column) - (rows.norm2 + r * r) * sums_ -
                     rows.norm2 * 0x1p-24);
}

Certificate::Interval Certificate::interval(const RowBounds& row, const ColumnBounds& column,
                                            float score) const {
  const double e = 2 * error(row, column) + (row.norm2 + std::fabs(double(score))) * 2 * sums_;
  const double squared = row.norm2 - 2 * double(score);
  const double slack = row.residual + column.residual;
  const double low = squared - e, high = squared + e;
  Interval result;
  result.lower = (low <= 0 ? 0.0 : std::sqrt(low)) * (1 - 0x1p-48) - slack * kUp;
  result.upper = (high <= 0 ? 0.0 : std::sqrt(high)) * kUp + slack * kUp;
  if (!(result.lower == result.lower)) result.lower = -kInfinity;
  if (!(result.upper == result.upper)) result.upper = kInfinity;
  return result;
}

double Certificate::residual(double computed, double norm2) const {
  // On the way from x to X in float32: a difference, a scale and at most 54 roundings of a
  // rotation, each relative to the norm; the last term also covers what underflows.
  return computed * (1 + coded_) + std::sqrt(norm2) * 0x1p-18 + small_;
}

}  // namespace entroselect
