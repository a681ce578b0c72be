// Around the filter pass (kernels/triton/filter.py): what it reads of tiles of columns, and the
// pairs of what it wrote.

#include "open_pairs.cuh"

namespace entroselect::cuda {

namespace {

// Half the squared norm of each place of a tile, inf past the end and -inf for columns without a
// code; the largest norm and residual of its coded columns.
//
//   grid      one block of 256 threads per tile
//   shared    2 KB; 9 syncs
//   valid     tiles of any size; numbers >= 0
struct TileColumns {
  static constexpr int threads = 256;
  struct Shared {
    float norm[threads], residual[threads];
  };

  Coded columns;
  int64_t begin, end;
  Tiles out;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    const int64_t first = block.index() * out.columns;
    block.each([&](int t) {
      s.norm[t] = s.residual[t] = 0;
      for (int64_t l = first + t; l < first + out.columns; l += threads) {
        const int64_t c = begin + l;
        const bool coded = c < end && columns.residual[c] < float(INFINITY);
        out.half[l] = coded     ? columns.norm2[c] * 0.5f
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
      out.norm[block.index()] = s.norm[0];
      out.residual[block.index()] = s.residual[0];
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

void tile_columns(const Coded& columns, int64_t begin, int64_t end, const Tiles& out,
                  Stream stream) {
  launch(TileColumns{columns, begin, end, out}, (end - begin + out.columns - 1) / out.columns,
         stream);
}

void expand(const Items& items, const Sides& sides, const PairList& out, Stream stream) {
  const int64_t words = items.capacity * items.words_each, threads = ExpandItems::threads;
  const int64_t blocks = (words + threads - 1) / threads;
  launch(ExpandItems{items, sides, out}, blocks < 1024 ? blocks : 1024, stream);
}

}  // namespace entroselect::cuda
