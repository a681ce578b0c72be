// What a refresh compares, and what rows have met after it.

#include "kernels.h"

namespace entroselect::cuda {

namespace {

constexpr int kNever = 0x7fffffff;

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

// A row that was compared with the columns from scanned[i] on, and had met those before, has met
// all.
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
  const int32_t* scanned;  // null: all columns
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
      const int before = met[rows[i]], from = scanned ? scanned[i] : 0;
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
      if (block.index() == 0 && room.listed) add_to(&tally[2], room.listed[1]);
    });
  }
};

}  // namespace

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

void note_met(const Selection& selection, const int64_t* rows, const int32_t* scanned,
              const Room& room, int64_t n, int64_t count, int64_t* tally, Stream stream) {
  launch(NoteMet{selection.met, rows, scanned, room, n, int(count), tally},
         (n + NoteMet::threads - 1) / NoteMet::threads, stream);
}

}  // namespace entroselect::cuda
