// Around the filter pass (kernels/triton/filter.py): what it reads of tiles of columns, and the
// pairs of what it wrote.

#include "open_pairs.cuh"

namespace entroselect::cuda {

namespace {

// What the filter reads. Of columns: half the squared norm of each place of a tile, inf past the
// end and -inf for columns without a code; the largest norm and residual of its coded columns. Of
// rows: see PassRows.
//
//   grid      one block of 256 threads per tile of columns, then one per tile of rows
//   shared    2 KB; 9 syncs for columns, 3 for rows, which share a minimum, so any order
//   valid     tiles of any size; norms and residuals >= 0
struct BeginPass {
  static constexpr int threads = 256;
  struct Shared {
    float norm[threads], residual[threads];
    int first;
  };

  Coded columns;
  int64_t begin, end, column_tiles;
  Tiles tiles;
  PassRows rows;
  Reach reach;
  Room before;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    const int64_t tile = block.index() - column_tiles;
    if (tile < 0)
      of_columns(block, s, block.index());
    else
      of_rows(block, s, tile);
  }

 private:
  template <class AnyBlock>
  ENTROSELECT_ANY void of_columns(const AnyBlock& block, Shared& s, int64_t tile) const {
    const int64_t first = tile * tiles.columns;
    block.each([&](int t) {
      s.norm[t] = s.residual[t] = 0;
      for (int64_t l = first + t; l < first + tiles.columns; l += threads) {
        const int64_t c = begin + l;
        const bool coded = c < end && columns.residual[c] < float(INFINITY);
        tiles.half[l] = coded     ? columns.norm2[c] * 0.5f
                        : c < end ? -float(INFINITY)
                                  : float(INFINITY);
        if (!coded) continue;
        s.norm[t] = fmaxf(s.norm[t], columns.norm[c]);
        s.residual[t] = fmaxf(s.residual[t], columns.residual[c]);
      }
    });
    for (int other = threads / 2; other; other /= 2)
      block.each([&](int t) {
        if (t >= other) return;
        s.norm[t] = fmaxf(s.norm[t], s.norm[t + other]);
        s.residual[t] = fmaxf(s.residual[t], s.residual[t + other]);
      });
    block.each([&](int t) {
      if (t) return;
      tiles.norm[tile] = s.norm[0];
      tiles.residual[tile] = s.residual[0];
    });
  }

  template <class AnyBlock>
  ENTROSELECT_ANY void of_rows(const AnyBlock& block, Shared& s, int64_t tile) const {
    block.each([&](int t) {
      if (t == 0) s.first = kNever;
    });
    block.each([&](int t) {
      const int64_t last = (tile + 1) * rows.each;
      for (int64_t i = tile * rows.each + t; i < last && i < rows.n; i += threads) {
        const int64_t row = rows.row[i];
        rows.reach[i] = reach.of(rows.squared[row * rows.stride]);
        if (rows.skip) rows.skip[i] = row - rows.shift;
        if (rows.left && rows.left[i]) continue;
        lower(&s.first, rows.met ? rows.met[row] : int(begin));
      }
    });
    block.each([&](int t) {
      if (t) return;
      rows.first[tile] = s.first;
      rows.scanned[tile] = int(begin);
      if (tile) return;
      rows.count[0] = rows.count[1] = 0;
      rows.count[2] = before.exceeded();
    });
  }
};

// The pairs of items whose certified lower bounds are within the final reach of their rows. A
// word's bit 2 j + b is column 8 j + 2 q + b of the 128 columns that word 4 h + q belongs to.
//
//   grid      at most 1024 blocks of 256 threads, which take words in turn
//   shared    none; no syncs; threads meet in a counter of pairs, so any order
//   valid     pairs beyond the capacity are counted and not written
struct ExpandItems {
  static constexpr int threads = 256;
  using Shared = NoShared;

  Items items;
  Sides sides;
  PairList out;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    block.each([&](int t) {
      const int64_t listed = int64_t(*items.count) < items.capacity ? *items.count : items.capacity;
      const int64_t words = listed * items.words_each, step = block.count() * threads;
      for (int64_t at = block.index() * threads + t; at < words; at += step) expand(at);
    });
  }

  ENTROSELECT_ANY void expand(int64_t at) const {
    const int64_t item = at / items.words_each, word = at % items.words_each;
    const int32_t slot = items.slot[item];
    const float best = items.best[item];
    const int64_t first = items.start[item] + word / 4 * 128 + word % 4 * 2;
    for (uint32_t bits = items.words[at]; bits; bits &= bits - 1) {
      const int bit = lowest_bit(bits);
      const int64_t column = first + bit / 2 * 8 + bit % 2;
      if (items.skip && items.skip[slot] == column) continue;
      if (too_far(sides, slot, column, double(best))) continue;
      const uint64_t place = claim(out.count);
      if (place >= uint64_t(out.capacity)) continue;
      out.slot[place] = slot;
      out.column[place] = int32_t(column);
      out.score[place] = best;
    }
  }
};

}  // namespace

void begin_pass(const Coded& columns, int64_t begin, int64_t end, const Tiles& tiles,
                const PassRows& rows, const Reach& reach, const Room& before, Stream stream) {
  const int64_t column_tiles = (end - begin + tiles.columns - 1) / tiles.columns;
  const int64_t row_tiles = (rows.n + rows.each - 1) / rows.each;
  launch(BeginPass{columns, begin, end, column_tiles, tiles, rows, reach, before},
         column_tiles + row_tiles, stream);
}

void expand(const Items& items, const Sides& sides, const PairList& out, Stream stream) {
  const int64_t words = items.capacity * items.words_each, threads = ExpandItems::threads;
  const int64_t blocks = (words + threads - 1) / threads;
  launch(ExpandItems{items, sides, out}, blocks < 1024 ? blocks : 1024, stream);
}

}  // namespace entroselect::cuda
