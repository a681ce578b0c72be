// Few values in order, and codes of rows in that order.

#include "kernels.h"

namespace entroselect::cuda {

namespace {

// Places of values in descending order, of equals the first first, by counting those that come
// before each.
//
//   grid      ceil(n / 8) blocks of 256 threads, a team of 32 threads per value
//   shared    none; 1 sync
//   valid     no NaN; n^2 comparisons, so few values
struct Rank {
  static constexpr int threads = 256, kTeam = 32, teams = threads / kTeam;
  using Shared = NoShared;
  using Warp = Team<kTeam>;

  const double* values;
  int64_t n;
  bool reverse;
  double* sorted;
  int64_t* places;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    each_team<kTeam>(block, [&](const Warp& team) {
      const int64_t i = block.index() * teams + team.index;
      if (i >= n) return;
      const Key own = {values[i], i};
      Warp::PerLane before;
      team.each([&](int lane) {
        int count = 0;
        for (int64_t j = lane; j < n; j += kTeam) count += Key{values[j], j}.beats(own);
        before[lane] = count;
      });
      const int64_t rank = int64_t(team.sum(before)), to = reverse ? n - 1 - rank : rank;
      if (!team.leads()) return;
      sorted[to] = own.bound;
      places[to] = i;
    });
  }
};

// out[i] <- the codes of row rows[order[i]].
//
//   grid      ceil(n / 8) blocks of 256 threads, a team of 32 threads per row
//   shared    none; 1 sync
//   valid     width a multiple of 4, codes aligned to 8 bytes
struct GatherCodes {
  static constexpr int threads = 256, kTeam = 32, teams = threads / kTeam;
  using Shared = NoShared;
  using Warp = Team<kTeam>;

  Coded coded;
  const int64_t *rows, *order;
  int64_t n, width;
  Coded out;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    each_team<kTeam>(block, [&](const Warp& team) {
      const int64_t i = block.index() * teams + team.index;
      if (i >= n) return;
      const int64_t row = rows[order[i]], words = width / 4;  // of four codes
      const auto* from = reinterpret_cast<const uint64_t*>(coded.codes) + row * words;
      auto* to = reinterpret_cast<uint64_t*>(out.codes) + i * words;
      team.each([&](int lane) {
        for (int64_t l = lane; l < words; l += kTeam) to[l] = from[l];
      });
      if (!team.leads()) return;
      out.norm2[i] = coded.norm2[row];
      out.norm[i] = coded.norm[row];
      out.residual[i] = coded.residual[row];
    });
  }
};

}  // namespace

void rank(const double* values, int64_t n, bool reverse, double* sorted, int64_t* places,
          Stream stream) {
  launch(Rank{values, n, reverse, sorted, places}, (n + Rank::teams - 1) / Rank::teams, stream);
}

void gather_codes(const Coded& coded, const int64_t* rows, const int64_t* order, int64_t n,
                  int64_t width, const Coded& out, Stream stream) {
  launch(GatherCodes{coded, rows, order, n, width, out},
         (n + GatherCodes::teams - 1) / GatherCodes::teams, stream);
}

}  // namespace entroselect::cuda
