// What a selection keeps in device memory, and the small state with which kernels settle picks
// among a block's rows without the host.
#pragma once

#include "rows.cuh"

namespace entroselect::cuda {

// A row by its bound. The one that comes first is the next pick: larger bound, then lower row.
struct Key {
  double bound;
  int64_t row;

  ENTROSELECT_ANY bool beats(const Key& other) const {
    return bound > other.bound || (bound == other.bound && row < other.row);
  }
};

// The bound of a picked row. Below every distance, duplicates of picked rows included.
constexpr double kPicked = -1;

// Rows among which picks are settled at a time by exact distances.
#if defined(ENTROSELECT_BLOCK)
constexpr int kMicro = 32;
#else
constexpr int kMicro = 128;
#endif

struct Selection {
  Rows pool;
  Rows given;      // picked vectors that are no pool rows, float64
  int64_t* picks;  // in order: a pool row, or -1 - row of given
  double* bounds;  // squared distance to the first met[i] picks; kPicked once picked
  int32_t* met;

  ENTROSELECT_ANY double distance_to(const Lanes& team, int64_t row, int64_t pick) const {
    const int64_t c = picks[pick];
    return c >= 0 ? distance(team, pool, row, pool, c) : distance(team, pool, row, given, -1 - c);
  }
};

struct State {
  int64_t count;     // picks in all
  int64_t picked;    // of them, since the host last looked
  int64_t at;        // in order: the place in the block that comes next
  int64_t micro;     // rows of the micro-block
  int64_t finished;  // nothing more can be settled: later kernels return at once
  double next;       // bound of the next pick, -1 where undecided
  Key rival, inner;  // the best row outside the block; outside the micro-block
};

// Memory of one call that settles picks, all on the device.
struct Scratch {
  State* state;
  int64_t* micro;   // kMicro pool rows
  double* between;  // kMicro x kMicro canonical squared distances
  uint64_t* keys;   // one per row of the block
  double* squared;  // bound of each pick made, `limit` of them
};

struct NoShared {};

// More than any number of picks.
constexpr int kNever = 0x7fffffff;

}  // namespace entroselect::cuda
