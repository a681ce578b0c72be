// The lengths that cosine divides rows by.
#pragma once

#include "isa/kernels.h"

namespace entroselect {

// The value of Rows::lengths for a row of rows that have no lengths yet: the root of its canonical
// sum of squares. Where that sum is below kTinySquare, squares underflow: then minus the length of
// kTinyScale times the row. 0 for a row of zeros only. `zero`: padded(d) zeros.
double length_of(const Rows& rows, int64_t i, const Kernels& kernels, const double* zero);

// Bytes that the length of a row takes.
constexpr int64_t kLengthBytes = sizeof(double);

}  // namespace entroselect
