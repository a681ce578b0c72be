// The inner loops, compiled once per instruction set from kernels.cpp and chosen at run time.
//
// Two families, with opposite rules:
//   canonical  float64, 8 strided lanes, every operation rounded by itself: same bits everywhere.
//   score      the filter: as fast as the chip allows, any order, any fused operation; its error
//              is bounded in certificate.h and nothing is decided by it alone.
#pragma once

#include <cstdint>

#include "rows.h"

namespace entroselect {

// Columns of the packed side of a score tile; rows of a group share one pass over the panels.
constexpr int kPanel = 32;

// What rounding one row to bfloat16 gave: ||x~||^2 and ||x - x~||, both in the scaled frame.
struct Rounded {
  double norm2;
  double residual;
};

struct Kernels {
  const char* name;

  // Score tiles read bfloat16 pairs as they are stored (true), or rows and panels widened to
  // float32 by `widen_rows` and `widen_panel` (false).
  bool reads_bf16;

  // Canonical squared distance of x (float64, padded) to row i / to y (float64, padded).
  double (*distance_to_row)(const double* x, const Rows& rows, int64_t i);
  double (*distance)(const double* x, const double* y, int64_t d_padded);

  // Row i as canonical float64 values, zero-padded.
  void (*load_row)(const Rows& rows, int64_t i, double* out);

  // Index of the first value of row i that is not finite or beyond `largest`, -1 if none.
  int64_t (*first_unusable)(const Rows& rows, int64_t i, double largest);

  // x~ = bf16(scale (x - centre)), zero-padded to 2 * pairs values.
  Rounded (*round_row)(const double* x, const double* centre, double scale, int64_t d,
                       int64_t pairs, uint16_t* out);

  // bf16 -> float32, for instruction sets without bf16 products.
  void (*widen_rows)(const uint16_t* in, int64_t pairs, float* out);
  void (*widen_panel)(const uint32_t* in, int64_t pairs, float* out);

  // For r < nx and c < kPanel: s = start[c] + x_r . y_c. Bit c of mask[r] is set when
  // s >= threshold[r] (or s is NaN); scores[r * kPanel + c] is written where mask[r] is not 0.
  // x: nx pointers to rows; panel: [pairs][kPanel] bf16 pairs, or [2 * pairs][kPanel] floats.
  void (*score)(const void* const* x, int nx, const void* panel, const float* start, int64_t pairs,
                const float* threshold, uint32_t* mask, float* scores);
};

extern const Kernels kernels_portable;
#if defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
extern const Kernels kernels_avx512bf16;
#elif defined(__aarch64__)
extern const Kernels kernels_neon;
#endif

// Every instruction set this build knows, best first, and why it cannot run here ("" if it can).
struct Candidate {
  const char* name;
  const Kernels* kernels;
  const char* reason;
};
const Candidate* candidates(int* count);

// The kernels of that name; nullptr if they are unknown or cannot run here.
const Kernels* find_kernels(const char* name);

}  // namespace entroselect
