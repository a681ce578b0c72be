// What a refresh compares, and what rows have met after it.

#include <algorithm>

#include "kernels.h"

namespace entroselect::cuda {

namespace {

// The order in which rows are compared: by how many picks they have met, those that need no
// comparison last.
//
//   grid      ceil(n / 256) blocks of 256 threads, one thread per row
//   shared    8 B; 3 syncs; blocks share a sum and a minimum, so any order
struct MarkStale {
  static constexpr int threads = 256;
  struct Shared {
    Stale stale;
  };

  Selection selection;
  const int64_t* rows;     // null: all
  const int64_t* present;  // how many of the n there are, in device memory; null: all
  int64_t n;
  int count;
  double enough;
  int32_t* keys;
  Stale* stale;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    block.each([&](int t) {
      if (t == 0) s.stale = {0, count};
    });
    block.each([&](int t) {
      const int64_t i = block.index() * threads + t;
      if (i >= n) return;
      keys[i] = kNever;
      if (present && i >= *present) return;
      const int64_t row = rows ? rows[i] : i;
      const double bound = selection.bounds[row];
      const int met = selection.met[row];
      if (!(bound > 0 && bound >= enough && met < count)) return;
      keys[i] = met;
      add_to(&s.stale.rows, 1);
      lower(&s.stale.least, met);
    });
    block.each([&](int t) {
      if (t || s.stale.rows == 0) return;
      add_to(&stale->rows, s.stale.rows);
      lower(&stale->least, s.stale.least);
    });
  }
};

// A row that was compared with the columns from scanned.from(i) on, and had met those before, has
// met all.
//
//   grid      ceil(n / 256) blocks of 256 threads, one thread per row; rows are distinct
//   shared    4 KB; 10 syncs; blocks share sums, so any order
struct NoteMet {
  static constexpr int threads = 256;
  struct Shared {
    int64_t pairs[threads], rows[threads];
  };

  int32_t* met;
  const int64_t* rows;
  Scanned scanned;
  Room room;
  int64_t n;
  int count;
  int64_t* tally;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    if (room.exceeded()) return;
    block.each([&](int t) {
      s.pairs[t] = s.rows[t] = 0;
      const int64_t i = block.index() * threads + t;
      if (i >= n) return;
      const int before = met[rows[i]], from = scanned.from(i);
      s.pairs[t] = count - (from > before ? from : before);
      if (from > before) return;
      s.rows[t] = 1;
      met[rows[i]] = count;
    });
    for (int half = threads / 2; half; half /= 2)
      block.each([&](int t) {
        if (t >= half) return;
        s.pairs[t] += s.pairs[t + half];
        s.rows[t] += s.rows[t + half];
      });
    block.each([&](int t) {
      if (t) return;
      add_to(&tally[0], s.pairs[0]);
      add_to(&tally[1], s.rows[0]);
    });
  }
};

constexpr int kRuns = 1024;  // blocks at most, each with its run of rows

// Rows of a pass, and which of them take part in the next.
struct Parting {
  const double* bounds;
  const int64_t* rows;
  Scanned scanned;
  int64_t n, span;  // rows, and rows of a run
  int32_t end;
  double enough;

  ENTROSELECT_ANY bool stays(int64_t i) const {
    return scanned.from(i) <= end && bounds[rows[i]] >= enough;
  }
  ENTROSELECT_ANY int64_t begin_of(int64_t run) const { return run * span; }
  ENTROSELECT_ANY int64_t end_of(int64_t run) const {
    return begin_of(run) + span < n ? begin_of(run) + span : n;
  }
};

// How many rows of each run stay.
//
//   grid      at most kRuns blocks of 256 threads, each with its run of rows
//   shared    2 KB; a running sum of 16 syncs
struct CountStaying {
  static constexpr int threads = 256;
  struct Shared {
    int stay[threads], more[threads];
  };

  Parting parting;
  int* tallies;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    const int64_t run = block.index(), end = parting.end_of(run);
    block.each([&](int t) {
      s.stay[t] = 0;
      for (int64_t i = parting.begin_of(run) + t; i < end; i += threads)
        s.stay[t] += parting.stays(i);
    });
    add_up(block, s.stay, s.more);
    block.each([&](int t) {
      if (t == threads - 1) tallies[run] = s.stay[t];
    });
  }
};

// Writes rows that stay, then the others, both in the order they had.
//
//   grid      as CountStaying, one thread per consecutive rows, so that the order stays
//   shared    4 KB; three running sums of 16 syncs
struct PlaceParted {
  static constexpr int threads = 256;
  struct Shared {
    int before[threads], all[threads], stay[threads], more[threads];
  };

  Parting parting;
  const int* tallies;
  int64_t* out;
  int32_t* left;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    const int64_t run = block.index(), end = parting.end_of(run);
    const int64_t each = (parting.span + threads - 1) / threads;
    const auto rows_of = [&](int t, const auto& f) {
      const int64_t from = parting.begin_of(run) + t * each, to = from + each;
      for (int64_t i = from; i < to && i < end; ++i) f(i);
    };
    block.each([&](int t) {
      s.before[t] = s.all[t] = s.stay[t] = 0;
      for (int64_t other = t; other < block.count(); other += threads) {
        s.all[t] += tallies[other];
        if (other < run) s.before[t] += tallies[other];
      }
      rows_of(t, [&](int64_t i) { s.stay[t] += parting.stays(i); });
    });
    add_up(block, s.before, s.more);
    add_up(block, s.all, s.more);
    add_up(block, s.stay, s.more);
    block.each([&](int t) {
      int64_t staying = s.before[threads - 1] + (t ? s.stay[t - 1] : 0);
      rows_of(t, [&](int64_t i) {
        const bool stays = parting.stays(i);
        // As many of the rows before this one do not stay as there are others among them.
        const int64_t to = stays ? staying : s.all[threads - 1] + i - staying;
        out[to] = parting.rows[i];
        left[to] = stays ? 0 : parting.scanned.from(i);
        staying += stays;
      });
    });
  }
};

}  // namespace

void part_rows(const Selection& selection, const int64_t* rows, const Scanned& scanned, int64_t n,
               int64_t end, double enough, int64_t* out, int32_t* left, void* memory,
               Stream stream) {
  constexpr int64_t kLeast = 1024;  // rows of a run
  const int64_t span = std::max((n + kRuns - 1) / kRuns, kLeast), runs = (n + span - 1) / span;
  int* const tallies = static_cast<int*>(memory);
  static_assert(kRuns * sizeof(int) <= 4096, "the memory that is asked for");
  const Parting parting = {selection.bounds, rows, scanned, n, span, int32_t(end), enough};
  launch(CountStaying{parting, tallies}, runs, stream);
  launch(PlaceParted{parting, tallies, out, left}, runs, stream);
}

void mark_stale(const Selection& selection, const int64_t* rows, const int64_t* present, int64_t n,
                int64_t count, double enough, int32_t* keys, Stale* stale, Stream stream) {
  launch(MarkStale{selection, rows, present, n, int(count), enough, keys, stale},
         (n + MarkStale::threads - 1) / MarkStale::threads, stream);
}

Stale find_stale(const Selection& selection, const int64_t* rows, int64_t n, int64_t count,
                 double enough, int32_t* keys, Stale* memory, Stream stream) {
  Stale stale = {0, int32_t(count)};
  to_device(memory, &stale, sizeof stale, stream);
  mark_stale(selection, rows, nullptr, n, count, enough, keys, memory, stream);
  to_host(&stale, memory, sizeof stale, stream);
  return stale;
}

void note_met(const Selection& selection, const int64_t* rows, const Scanned& scanned,
              const Room& room, int64_t n, int64_t count, int64_t* tally, Stream stream) {
  launch(NoteMet{selection.met, rows, scanned, room, n, int(count), tally},
         (n + NoteMet::threads - 1) / NoteMet::threads, stream);
}

}  // namespace entroselect::cuda
