// Farthest-first selection from many small pools: every thread takes one cloud at a time.
#pragma once

#include <cstdint>
#include <functional>

#include "isa/kernels.h"

namespace entroselect {

// `count` clouds of n rows, one after the other. The first lengths[c] rows of cloud c are its
// points; what stands behind them is never read.
struct Clouds {
  Rows rows;
  int64_t count, n;
  const int64_t* lengths;

  Rows cloud(int64_t c) const {
    Rows points = rows;
    points.data += c * n * rows.stride;
    points.n = lengths[c];
    return points;
  }
};

// The lowest point, as its number in `rows`, with a value that is not finite or beyond `largest`;
// -1 if there is none.
int64_t first_unusable_point(const Clouds& clouds, const Kernels& kernels, double largest,
                             int threads, const std::function<void()>& poll);

// The point of every cloud that is nearest to the mean of its points, or farthest from it.
void centers_of(const Clouds& clouds, bool farthest, const Kernels& kernels, int threads,
                const std::function<void()>& poll, int64_t* indices);

// k picks of every cloud, from point starts[c] on: indices and squared distances to all picks
// before, (count, k); and of every cloud the largest squared distance of a point that is left, 0 if
// none is.
void batch_greedy(const Clouds& clouds, int64_t k, const int64_t* starts, const Kernels& kernels,
                  int threads, const std::function<void()>& poll, int64_t* indices, double* squared,
                  double* radius);

}  // namespace entroselect
