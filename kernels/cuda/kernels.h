// Every operation of this folder. Pointers are device memory, work is queued on the stream; only
// frontier, find_stale, farthest_first and in_order wait for it. Nothing here depends on a
// framework: see module.cpp.
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

// The pairs that the filter left open: place of the row in the pass, column, a score that is not
// below the pair's. There are n of them; with `listed`, in device memory, n is the room, and as
// many were listed as that says: more than there was room for, if it is larger as an unsigned
// number.
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

// How many items and pairs a pass listed, in device memory, and for how many there was room. The
// third number is not 0 where there was none in an earlier pass of the same rows.
struct Room {
  const int64_t* listed = nullptr;
  int64_t items = 0, pairs = 0;

  ENTROSELECT_ANY bool exceeded() const {
    return listed && (listed[0] > items || listed[1] > pairs || listed[2] != 0);
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

// Tiles of columns as the filter reads them: half squared norms (a place for each of `columns` per
// tile), largest norms and residuals.
struct Tiles {
  float *half, *norm, *residual;
  int64_t columns;
};

// From a canonical squared distance to a distance in the frame that no pair within it exceeds.
struct Reach {
  double relative, absolute, scale;

  ENTROSELECT_ANY float of(double squared) const {
    return float(multiply(scale, square_root(add(multiply(squared, relative), absolute))));
  }
};

// Rows of a pass in tiles of `each`, and what the filter reads of them.
struct PassRows {
  const int64_t* row;
  int64_t n, each;
  const double* squared;  // by row, `stride` apart: no pair beyond it matters
  int64_t stride;
  const int32_t* met;   // by row: the columns before it do not count; null: all count
  const int32_t* left;  // per slot: not 0 where the row takes no part any more; null: all do
  // Written:
  float* reach;   // per slot
  int64_t* skip;  // per slot: row - shift; null: not wanted
  int64_t shift;
  int32_t *first, *scanned;  // per tile: the least `met`; where the pass begins
  int64_t* count;            // nothing listed yet, as Room reads it
};

// From which column on rows have been compared: per tile of `each` rows (null: from the first),
// and, not 0, for a row that left before.
struct Scanned {
  const int32_t* tile = nullptr;
  int64_t each = 1;
  const int32_t* left = nullptr;

  ENTROSELECT_ANY int32_t from(int64_t i) const {
    return left && left[i] ? left[i] : tile ? tile[i / each] : 0;
  }
};

// What the filter wrote: a row, the first column of a tile, the row's best score in it, and the
// bits of the columns that pass, in `words_each` words.
struct Items {
  const int32_t *slot, *start;
  const float* best;
  const uint32_t* words;
  const uint32_t* count;  // in all, of which `capacity` were written
  const int64_t* skip;    // per slot: the column it has no pair with; null: none
  int64_t capacity, words_each;
};

// Room for pairs, and how many there are, with room or without.
struct PairList {
  int32_t *slot, *column;
  float* score;
  uint64_t* count;
  int64_t capacity;
};

struct Settled {
  int64_t picked;
  double next;  // the next pick's squared distance, -1 where undecided
};

// Of some rows: how many have to be compared with picks, and the least number of picks met so far.
struct Stale {
  int32_t rows, least;
};

struct Frontier {
  int64_t count;
  Key rival;  // the best row left out, {kPicked, -1} if there is none
  Stale stale;
};

// Rows found in a list, and the place after the last of them, the end of the list if there are
// fewer than asked for.
struct Candidates {
  int64_t count, stop;
};

// "" when kernels can run here, otherwise why not.
std::string why_not();

void code(const Rows& rows, const int64_t* index, int64_t first, int64_t n, const double* centre,
          double scale, int64_t width, const Coded& out, Stream stream);

// Before a pass over columns [begin, end); `before`: of the pass before it over the same rows.
void begin_pass(const Coded& columns, int64_t begin, int64_t end, const Tiles& tiles,
                const PassRows& rows, const Reach& reach, const Room& before, Stream stream);

// After it: the pairs of the items that are within reach.
void expand(const Items& items, const Sides& sides, const PairList& out, Stream stream);

void distances_to(const Rows& rows, int64_t n, const Rows& vector, double* out, Stream stream);

// The values of Rows::lengths for rows that have none yet; 0 for rows of zeros only.
void lengths(const Rows& rows, int64_t n, double* out, Stream stream);

void roots(double* values, int64_t n, Stream stream);

// out (n, d): the rows of the index as float64.
void widen_rows(const Rows& rows, const int64_t* index, int64_t n, double* out, Stream stream);

void mean_row(const Rows& rows, int64_t n, double* out, Stream stream);

// The primitive frontier of entroselect/engine.py: the `size` rows with the largest bounds (of
// equals, those that come first), in order of rows; fewer where fewer are left. `keys` as from
// find_stale, with enough = 0. `memory` has kFrontierBytes, its content does not matter. Waits for
// the stream.
Frontier frontier(const Selection& selection, int64_t n, int64_t count, int64_t size, int64_t* rows,
                  int32_t* keys, void* memory, Stream stream);
extern const int64_t kFrontierBytes;

// The first `size` of n rows that beat `least` (bounds >= 0), in the order given, and, unless null,
// their bounds. `memory` has 4 KB. Does not wait.
void candidates(const Selection& selection, const int64_t* rows, int64_t n, Key least, int64_t size,
                int64_t* out, double* bounds, Candidates* candidates, void* memory, Stream stream);

// keys[i] <- how many picks row i of those (null: of all) has met, if it has not met all of `count`
// picks and its bound is positive and at least `enough`; else more than any number of picks. Waits
// for the stream; mark_stale does not: it adds to what `stale` holds, {0, count} at first.
Stale find_stale(const Selection& selection, const int64_t* rows, int64_t n, int64_t count,
                 double enough, int32_t* keys, Stale* memory, Stream stream);
void mark_stale(const Selection& selection, const int64_t* rows, const int64_t* present, int64_t n,
                int64_t count, double enough, int32_t* keys, Stale* stale, Stream stream);

// After rows were compared with the picks from `scanned` on: those that have met the picks before
// have met `count`. Adds to `tally`: pairs compared, rows that have met all. If there was no room
// for all pairs, does nothing.
void note_met(const Selection& selection, const int64_t* rows, const Scanned& scanned,
              const Room& room, int64_t n, int64_t count, int64_t* tally, Stream stream);

// Between passes over the same n rows, the second over columns before `end`: rows that take part,
// which have been compared with all columns from `end` on and whose bound is at least `enough`,
// then the others, each in the order given; and for each what Scanned calls `left`. `memory` has
// 4 KB.
void part_rows(const Selection& selection, const int64_t* rows, const Scanned& scanned, int64_t n,
               int64_t end, double enough, int64_t* out, int32_t* left, void* memory,
               Stream stream);

// Lowers the bounds of n rows to their exact distances to all unmet picks.
void catch_up(const Selection& selection, State* state, const int64_t* rows, int64_t n,
              int64_t count, Stream stream);

// Selection: lowers the bounds of the pairs' rows; a column is a pick. Neighbours (`picks` is
// null): squared[p] of each pair; a column is a row of `pool`, and `given`
// holds the rows, of the same type or float64. Adds the number of pairs to `tally`, unless null.
void recheck(const Pairs& pairs, const Sides& sides, const Selection& selection, double* squared,
             Stream stream, int64_t* tally = nullptr);

// The primitives settle and settle_in_order of entroselect/engine.py; `count` picks were made
// before, and there is room in `picks` for `limit` more. For farthest_first the rows ascend.
Settled farthest_first(const Selection& selection, const Scratch& scratch, const int64_t* rows,
                       int64_t n, int64_t count, Key rival, int64_t limit, double floor,
                       Stream stream);
int64_t in_order(const Selection& selection, const Scratch& scratch, const int64_t* rows, int64_t n,
                 int64_t count, int64_t limit, double floor, Stream stream);

// Few values in descending order, of equals the first first, and their places; with `reverse` both
// the other way around.
void rank(const double* values, int64_t n, bool reverse, double* sorted, int64_t* places,
          Stream stream);

// out[i] <- the codes of row rows[order[i]], whose width is a multiple of 4.
void gather_codes(const Coded& coded, const int64_t* rows, const int64_t* order, int64_t n,
                  int64_t width, const Coded& out, Stream stream);

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
// places in `order`, which names candidates, the worst first. If there was no room for all pairs,
// nothing will be settled.
void add_conflicts(const Selection& selection, const Conflicts& conflicts, const int64_t* order,
                   const Pairs& pairs, const Sides& sides, Stream stream, const Room& room = {});

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
