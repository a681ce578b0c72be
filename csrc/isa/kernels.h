// The inner loops, compiled once per instruction set from kernels.cpp and chosen at run time.
//
// Two families, with opposite rules:
//   canonical  float64, 8 strided lanes, every operation rounded by itself: same bits everywhere.
//   score      the filter: as fast as the chip allows, any order, any fused operation; its error
//              is bounded in filter/certificate.h and nothing is decided by it alone.
#pragma once

#include <cstdint>

#include "base/rows.h"

namespace entroselect {

// Columns of a score tile, which are rows of a panel; rows of a group share one pass over the
// panels.
constexpr int kPanel = 32;
constexpr int kGroup = 60;  // a multiple of tile heights, at most 64

// Rows of a leaf of a tree.
constexpr int kLeaf = 32;

// Rows of a panel of bits.
constexpr int kBitPanel = 16;

// What is known of a coded row, in the frame of the filter: the row is X, its code stands for X~.
struct Coded {
  double norm2;     // ||X~||^2
  double residual;  // ||X - X~|| as computed; Certificate::residual makes it a bound
  float step;       // X~ = step * code; 1 for bfloat16
  int32_t sum;      // of the code's bytes
};

// A group of rows against one panel. For r < rows and c < kPanel the score is
// s = start[c] + X~_r . Y~_c; bit c of mask[r] is set when s >= threshold[r] (or s is NaN) or,
// where columns have limits, when s - row_half[r] >= column_limit[c]; scores[r * kPanel + c] is
// written where mask[r] is not 0.
struct Tile {
  int rows;
  const void* const* x;   // codes of the rows
  const float* row_step;  // bytes only, as the next two
  const int32_t* row_sum;
  const float* column_step;
  const void* panel;   // [words][kPanel] words; floats: [2 * words][kPanel]
  const float* start;  // -||Y~||^2 / 2
  int64_t words;
  const float* threshold;
  uint32_t* mask;
  float* scores;
  const float* row_half = nullptr;
  const float* column_limit = nullptr;  // of kPanel columns, or none
};

// The leaves of a tree side by side, eight at a time.
struct Leaves {
  int64_t stride;       // leaves, and places that hold none up to a multiple of 8
  const double* boxes;  // [2][d][stride]: least and largest value of each column
  const double* best;   // [stride]: largest bound of each leaf; below 0 where there is none
};

// A word of a row of bits, and its place there.
struct BitWord {
  uint64_t bits;
  int64_t at;
};

// A row of bits: the words that are not 0, and how many bits are set.
struct BitRow {
  const BitWord* words;
  int64_t size;
  double bits;
};

// Rows of bits side by side. `bits` is NaN in places that hold no row.
struct BitPanel {
  const uint64_t* words;  // [words][kBitPanel]
  const double* bits;     // [kBitPanel]
};

struct Kernels {
  const char* name;

  // score_halves reads rows and panels widened to float32: there are no bfloat16 products.
  bool widens;

  // Bytes of a row's code reach from -row_levels to row_levels (a panel's from -127 to 127, stored
  // with panel_offset added), so that no sum inside score_bytes overflows.
  int row_levels;
  int panel_offset;

  // Canonical squared distance of x (float64, padded) to row i / to y (float64, padded).
  double (*distance_to_row)(const double* x, const Rows& rows, int64_t i);
  double (*distance)(const double* x, const double* y, int64_t d_padded);

  // Rows of at most kTreeWidth columns: the canonical squared distances of x to the rows of a leaf,
  // stored column by column. Bit j of the result is set where out[j] <= limit.
  uint32_t (*leaf_distances)(const double* x, const double* columns, int64_t d, double limit,
                             double* out);

  // Lowers bounds[j] to the distances from x and returns the place of the largest, the first of
  // equals.
  int (*lower_leaf)(const double* x, const double* columns, int64_t d, double* bounds);

  // Writes the numbers of the leaves that have a best bound above their box's distance from x, and
  // returns how many there are.
  int64_t (*nearer_leaves)(const double* x, const Leaves& leaves, int64_t d, int32_t* out);

  // The leaf with the largest best bound; of equals, the one with the lowest row.
  int64_t (*best_leaf)(const double* best, const int64_t* rows, int64_t stride);

  // Row i as canonical float64 values, zero-padded.
  void (*load_row)(const Rows& rows, int64_t i, double* out);

  // Index of the first value of row i that is not finite or beyond `largest`, -1 if none.
  int64_t (*first_unusable)(const Rows& rows, int64_t i, double largest);

  // scale (x - centre) in float32: of a row whose values are float32 or narrower, with a float32
  // centre; or of a canonical row. `out` is written up to a multiple of 8.
  void (*frame_row)(const Rows& rows, int64_t i, const float* centre, float scale, float* out);
  void (*frame_doubles)(const double* x, const double* centre, double scale, int64_t d, float* out);

  // x <- H diag(signs) x, H the orthogonal Walsh-Hadamard matrix of that size.
  void (*rotate_window)(float* x, const float* signs, int64_t size);

  // Codes of a framed row, zero-padded to a multiple of 16: one byte per value, four to a word, or
  // one bfloat16 per value, two to a word.
  Coded (*code_bytes)(const float* x, int64_t d, int64_t words, int levels, uint32_t* out);
  Coded (*code_halves)(const float* x, int64_t d, int64_t words, int levels, uint32_t* out);

  // The squares of the distances of x to the rows of a panel, infinity where there is none; returns
  // the least. Distances are quotients of whole numbers, rounded once: bits that only one of the
  // rows has, over bits that any of them has (tanimoto; 0 if there are none) or over 1 (hamming).
  // Returns infinity, and may leave `squared` as it was, if no distance is below `reach` but for a
  // rounding of 2^-52.
  double (*bit_distances)(const BitRow& x, const BitPanel& panel, bool tanimoto, double reach,
                          double* squared);

  // bfloat16 -> float32.
  void (*widen_row)(const uint32_t* in, int64_t words, float* out);
  void (*widen_panel)(const uint32_t* in, int64_t words, float* out);

  // Bit r of the result is set when mask[r] is not 0. score_bytes: nullptr where there is none.
  uint64_t (*score_bytes)(const Tile& tile);
  uint64_t (*score_halves)(const Tile& tile);
};

extern const Kernels kernels_portable;
#if defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avxvnni;
extern const Kernels kernels_avx512;
extern const Kernels kernels_avx512vnni;
extern const Kernels kernels_avx512bf16;
#elif defined(__aarch64__)
extern const Kernels kernels_neon;
extern const Kernels kernels_neondot;
#endif

// Every instruction set that this build has, best first, and why it cannot run here ("" if it can).
struct InstructionSet {
  const char* name;
  const Kernels* kernels;
  const char* reason;
};
const InstructionSet* instruction_sets(int* count);

// The kernels with that name; nullptr if they are unknown or cannot run here.
const Kernels* find_kernels(const char* name);

// The best that can run here.
const Kernels& best_kernels();

}  // namespace entroselect
