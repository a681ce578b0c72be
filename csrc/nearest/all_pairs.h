// The nearest other row of every row of a set, each pair scored once.
#pragma once

#include <cstdint>
#include <functional>

#include "filter/frame.h"
#include "filter/panels.h"

namespace entroselect {

// As nearest() with k = 1 and the points themselves as queries; at most 2^31 - 1 of them, coded in
// `panels`.
void all_pairs(const Rows& points, const Frame& frame, const Panels& panels, const Kernels& kernels,
               int threads, const std::function<void(int64_t)>& poll, double* squared,
               int64_t* indices);

// The most bytes that a row takes besides its values and its part of the panels: its reach, and its
// part of the suspects.
int64_t all_pairs_bytes_per_row(int64_t d);

}  // namespace entroselect
