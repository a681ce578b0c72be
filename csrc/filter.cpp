#include "filter.h"

#include <algorithm>
#include <cmath>

#include "buffer.h"

namespace entroselect {

namespace {
constexpr int64_t kSample = 128;  // rows that decide the frame

double median(std::vector<double>& values) {
  const auto middle = values.begin() + int64_t(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}
}  // namespace

Filter::Filter(const Rows& rows, const Kernels& kernels)
    : d(rows.d),
      pairs((rows.d + 1) / 2),
      centre(size_t(padded(rows.d)), 0.0),
      scale(1),
      certificate(rows.d, (rows.d + 1) / 2, 1) {
  const int64_t count = std::min(rows.n, kSample), width = padded(d);
  Buffer<double> sample(count * width);
  for (int64_t s = 0; s < count; ++s)
    kernels.load_row(rows, s * rows.n / count, sample.get() + s * width);
  std::vector<double> column(static_cast<size_t>(count));
  for (int64_t l = 0; l < d; ++l) {
    for (int64_t s = 0; s < count; ++s) column[size_t(s)] = sample[s * width + l];
    centre[size_t(l)] = median(column);
  }
  std::vector<double> largest;
  for (int64_t s = 0; s < count; ++s) {
    double m = 0;
    for (int64_t l = 0; l < d; ++l)
      m = std::max(m, std::fabs(sample[s * width + l] - centre[size_t(l)]));
    if (m > 0) largest.push_back(m);
  }
  if (!largest.empty())
    scale = std::ldexp(1.0, -std::clamp(std::ilogb(median(largest)), -900, 900));
  certificate = Certificate(d, pairs, scale);
}

Rounded Filter::round(const Kernels& kernels, const double* row, uint16_t* out) const {
  Rounded result = kernels.round_row(row, centre.data(), scale, d, pairs, out);
  result.residual = certificate.residual(result.residual, result.norm2);
  return result;
}

}  // namespace entroselect
