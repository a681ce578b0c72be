#include "isa/lengths.h"

#include <cmath>
#include <vector>

namespace entroselect {

double length_of(const Rows& rows, int64_t i, const Kernels& kernels, const double* zero) {
  const double squared = kernels.distance_to_row(zero, rows, i);
  if (squared >= kTinySquare) return std::sqrt(squared);
  std::vector<double> scaled(size_t(padded(rows.d)));
  kernels.load_row(rows, i, scaled.data());
  for (double& value : scaled) value *= kTinyScale;
  return -std::sqrt(kernels.distance(zero, scaled.data(), int64_t(scaled.size())));
}

}  // namespace entroselect
