// Passes over all rows: checks, sums, distances to one vector.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "isa/kernels.h"

namespace entroselect {

// The values of Rows::lengths for these rows, which have none yet.
std::vector<double> lengths_of(const Rows& rows, const Kernels& kernels, int threads,
                               const std::function<void()>& poll);

// The lowest row with a value that is not finite or beyond `largest`; -1 if there is none.
int64_t first_unusable_row(const Rows& rows, const Kernels& kernels, double largest, int threads,
                           const std::function<void()>& poll);

// The lowest row of zeros only; -1 if there is none.
int64_t first_zero_row(const Rows& rows, const Kernels& kernels, int threads,
                       const std::function<void()>& poll);

// Adds the rows to a sum (d values), in order: the same bits as numpy's sum over rows in
// entroselect.reference.
void add_rows(const Rows& rows, const Kernels& kernels, const std::function<void()>& poll,
              double* sum);

// Canonical squared distances of all rows to a vector (d values).
void distances_to(const Rows& rows, const double* vector, const Kernels& kernels, int threads,
                  const std::function<void()>& poll, double* squared);

// Adds to the total of every row its canonical distances (square roots taken) to the points, one
// after the other in their order: the same bits for every thread count and split of the points.
void add_distances(const Rows& rows, const Rows& points, const Kernels& kernels, int threads,
                   const std::function<void()>& poll, double* totals);

}  // namespace entroselect
