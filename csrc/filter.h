// The frame in which rows are rounded: a centre and a power of two. Any choice is correct; a good
// one keeps residuals small, so that few pairs need an exact recheck.
#pragma once

#include <cstdint>
#include <vector>

#include "certificate.h"
#include "kernels.h"

namespace entroselect {

struct Filter {
  // The centre is the median of each column over a sample, and the scale brings the typical
  // centred row to 1: a far outlier moves neither.
  Filter(const Rows& rows, const Kernels& kernels);

  // x~ of a canonical row, with the residual the certificate wants.
  Rounded round(const Kernels& kernels, const double* row, uint16_t* out) const;

  int64_t d;
  int64_t pairs;  // column pairs, the last one zero-padded
  std::vector<double> centre;
  double scale;
  Certificate certificate;
};

}  // namespace entroselect
