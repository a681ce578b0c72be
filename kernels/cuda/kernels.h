// Every operation of this folder. Pointers are device memory, work is queued on the stream; only
// farthest_first and in_order wait for it. Nothing here depends on a framework: see module.cpp.
#pragma once

#include "state.cuh"

namespace entroselect::cuda {

// Coded rows: `width` fp16 values each; ||X~||^2 to nearest; upper bounds of ||X~|| and ||X - X~||.
struct Coded {
  uint16_t* codes;
  float* norm2;
  float* norm;
  float* residual;
};

// The pairs that the filter left open: place of the row in its tile, column, score. There are n of
// them; with `listed`, in device memory, n is the room, and as many were listed as that says: more
// than there was room for, if it is larger as an unsigned number.
struct Pairs {
  const int32_t* slot;
  const int32_t* column;
  const float* score;
  int64_t n;
  const int32_t* listed = nullptr;

  ENTROSELECT_ANY int64_t count() const {
    return listed && int64_t(uint32_t(*listed)) < n ? int64_t(uint32_t(*listed)) : n;
  }
};

// Both sides of a filter's tile: row[slot] of the caller's rows, whose coded form is
// rows[index[slot]], or rows[slot] without an index.
struct Sides {
  const int64_t* row;
  const int64_t* index;
  Coded rows, columns;
  const float* reach;  // per slot: no pair beyond it matters
  double gamma;        // relative error of a score
};

struct Settled {
  int64_t picked;
  double next;  // the next pick's squared distance, -1 where undecided
};

// "" when kernels can run here, otherwise why not.
std::string why_not();

void code(const Rows& rows, const int64_t* index, int64_t first, int64_t n, const double* centre,
          double scale, int64_t width, const Coded& out, Stream stream);

void distances_to(const Rows& rows, int64_t n, const Rows& vector, double* out, Stream stream);

// The values of Rows::lengths for rows that have none yet; 0 for rows of zeros only.
void lengths(const Rows& rows, int64_t n, double* out, Stream stream);

void roots(double* values, int64_t n, Stream stream);

// out (n, d): the rows of the index as float64.
void widen_rows(const Rows& rows, const int64_t* index, int64_t n, double* out, Stream stream);

void mean_row(const Rows& rows, int64_t n, double* out, Stream stream);

// Lowers the bounds of n rows to their exact distances to all unmet picks.
void catch_up(const Selection& selection, State* state, const int64_t* rows, int64_t n,
              int64_t count, Stream stream);

// Selection: lowers the bounds of the pairs' rows; a column is a pick. Neighbours (`picks` is
// null): squared[p] of each pair, infinite where dropped; a column is a row of `pool`, and `given`
// holds the rows, of the same type or float64.
void recheck(const Pairs& pairs, const Sides& sides, const Selection& selection, double* squared,
             Stream stream);

// The primitives settle and settle_in_order of entroselect/engine.py; `count` picks were made
// before, and there is room in `picks` for `limit` more. For farthest_first the rows ascend.
Settled farthest_first(const Selection& selection, const Scratch& scratch, const int64_t* rows,
                       int64_t n, int64_t count, Key rival, int64_t limit, double floor,
                       Stream stream);
int64_t in_order(const Selection& selection, const Scratch& scratch, const int64_t* rows, int64_t n,
                 int64_t count, int64_t limit, double floor, Stream stream);

// Two candidates, by their places in the order of rows, and their canonical squared distance, which
// is below the bounds of both.
struct Conflict {
  int32_t first, second;
  double squared;
};

// How far settling by conflicts has come; begins as zeros.
struct Outcome {
  int32_t conflicts;  // beyond `capacity` they are counted, not kept
  int32_t left[2];    // of them, between rows that may still be picked: before a step, after it
  int32_t unfit;      // not 0: a candidate had not met every pick; nothing was settled
  int64_t picked;
  double next;  // the next pick's squared distance, -1 where undecided
};

// Memory for settling picks by conflicts, all on the device. The candidates are up-to-date rows of
// the pool, all better than the rival, and ascend.
struct Conflicts {
  const int64_t* rows;
  int64_t n;
  Key rival;
  Outcome* outcome;
  Conflict* pairs;   // `capacity` of them
  int32_t* left;     // 2 * capacity
  double* value;     // n: bounds, lowered by picks
  int32_t* blocked;  // n: the last step in which a better row was in conflict with this one
  int32_t* turn;     // n: the step in which the row was picked, 0 before
  int32_t capacity;
};

// Starts with the candidates' bounds.
void begin_conflicts(const Selection& selection, const Conflicts& conflicts, int64_t count,
                     Stream stream);

// Adds the conflicts among pairs that the filter left open. Rows and columns of the pairs are
// places in `order`, which names candidates, the worst first.
void add_conflicts(const Selection& selection, const Conflicts& conflicts, const int64_t* order,
                   const Pairs& pairs, const Sides& sides, Stream stream);

// Picks candidates until no more of them beats the rival. Then `value` holds the picks' bounds, and
// -1 for other candidates. From `many` candidates on it is worth while to launch many blocks.
void pick_by_conflicts(const Conflicts& conflicts, Stream stream, int64_t many = 4096);

// Makes the first `limit` picks that are at the floor those of the selection, as farthest_first
// does. `value`, `place`: what pick_by_conflicts left, in descending order, of equals the first
// first, and the places of the candidates. Their rows and bounds go to `picks` and `squared`.
void keep_picks(const Selection& selection, const Conflicts& conflicts, const double* value,
                const int64_t* place, int64_t count, int64_t limit, double floor, int64_t* picks,
                double* squared, Stream stream);

}  // namespace entroselect::cuda
