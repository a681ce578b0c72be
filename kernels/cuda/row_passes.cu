// Passes over all rows: distances to a vector, lengths, roots, float64 rows, the mean.

#include <algorithm>

#include "catch_up.cuh"
#include "kernels.h"

namespace entroselect::cuda {

namespace {

// out[i] <- canonical squared distance of row i to a vector.
//
//   grid      ceil(n / 32) blocks of 256 threads, a team of 8 threads per row
//   shared    none; no syncs
struct DistancesTo {
  static constexpr int threads = 256, teams = threads / kLanes;
  using Shared = NoShared;

  Rows rows, vector;
  int64_t n;
  double* out;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    each_team<kLanes>(block, [&](const Lanes& team) {
      const int64_t i = block.index() * teams + team.index;
      if (i >= n) return;
      const double squared = distance(team, rows, i, vector, 0);
      if (team.leads()) out[i] = squared;
    });
  }
};

// out[i] <- what Rows::lengths holds for row i.
//
//   grid      ceil(n / 32) blocks of 256 threads, a team of 8 threads per row
//   shared    none; no syncs
struct Lengths {
  static constexpr int threads = 256, teams = threads / kLanes;
  using Shared = NoShared;

  Rows rows;
  int64_t n;
  double* out;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    each_team<kLanes>(block, [&](const Lanes& team) {
      const int64_t i = block.index() * teams + team.index;
      if (i >= n) return;
      const double squared = sum(team, i, 1);
      const bool tiny = !(squared >= kTinySquare);
      const double length = square_root(tiny ? sum(team, i, kTinyScale) : squared);
      if (team.leads()) out[i] = tiny ? -length : length;
    });
  }

  ENTROSELECT_ANY double sum(const Lanes& team, int64_t i, double scale) const {
    return with_type(rows, i, [&](auto* p) {
      return sum_of_squares<16>(
          team, rows.d, [&](int64_t l) { return fetch(p + l); },
          [&](auto x) { return multiply(widen(x), scale); });
    });
  }
};

// values[i] <- its square root, correctly rounded, which torch does not promise.
//
//   grid      ceil(n / 256) blocks of 256 threads, one thread per value
//   shared    none; no syncs
struct Roots {
  static constexpr int threads = 256;
  using Shared = NoShared;

  double* values;
  int64_t n;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    block.each([&](int t) {
      const int64_t i = block.index() * threads + t;
      if (i < n) values[i] = square_root(values[i]);
    });
  }
};

// Rows as float64, divided by their lengths if they have any.
//
//   grid      ceil(n d / 256) blocks of 256 threads, one thread per value
//   shared    none; no syncs
struct Widen {
  static constexpr int threads = 256;
  using Shared = NoShared;

  Rows rows;
  const int64_t* index;
  int64_t n;
  double* out;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    block.each([&](int t) {
      const int64_t place = block.index() * threads + t;
      if (place >= n * rows.d) return;
      const int64_t row = index[place / rows.d], column = place % rows.d;
      const Divisor by = divisor_of(rows, row);
      out[place] = with_type(rows, row, [&](auto* p) {
        return rows.lengths ? canonical<true>(p[column], by) : widen(p[column]);
      });
    });
  }
};

// Adds up a column in the order of rows, as the contract says, and divides by their number.
//
//   grid      ceil(d / 32) blocks of 32 threads, one thread per column: a chain of n additions,
//             whose latency is the time it takes
//   shared    none; no syncs
struct MeanRow {
  static constexpr int threads = 32;
  using Shared = NoShared;

  Rows rows;
  int64_t n;
  double* out;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    block.each([&](int t) {
      const int64_t l = block.index() * threads + t;
      if (l >= rows.d) return;
      const double sum = with_type(rows, 0, [&](auto* p) {
        return rows.lengths ? sum_of<true>(p + l) : sum_of<false>(p + l);
      });
      out[l] = divide(sum, double(n));
    });
  }

  template <bool kDivide, class T>
  ENTROSELECT_ANY double sum_of(const T* column) const {
    struct Loaded {
      T x;
      Divisor by;
    };
    double sum = 0;
    load_ahead<1, kDivide ? 16 : 32>(
        0, n,
        [&](int64_t i) {
          const char* p = reinterpret_cast<const char*>(column) + i * rows.stride;
          return Loaded{fetch(reinterpret_cast<const T*>(p)), divisor_of(rows, i)};
        },
        [&](int64_t, const Loaded& row) { sum = add(sum, canonical<kDivide>(row.x, row.by)); });
    return sum;
  }
};

}  // namespace

void distances_to(const Rows& rows, int64_t n, const Rows& vector, double* out, Stream stream) {
  launch(DistancesTo{rows, vector, n, out}, (n + DistancesTo::teams - 1) / DistancesTo::teams,
         stream);
}

void lengths(const Rows& rows, int64_t n, double* out, Stream stream) {
  launch(Lengths{rows, n, out}, (n + Lengths::teams - 1) / Lengths::teams, stream);
}

void roots(double* values, int64_t n, Stream stream) {
  launch(Roots{values, n}, (n + 255) / 256, stream);
}

void widen_rows(const Rows& rows, const int64_t* index, int64_t n, double* out, Stream stream) {
  launch(Widen{rows, index, n, out}, (n * rows.d + 255) / 256, stream);
}

void mean_row(const Rows& rows, int64_t n, double* out, Stream stream) {
  launch(MeanRow{rows, n, out}, (rows.d + 31) / 32, stream);
}

void catch_up(const Selection& selection, State* state, const int64_t* rows, int64_t n,
              int64_t count, Stream stream) {
  const State known = {count, 0, 0, n, 0, -1, {}, {}};
  to_device(state, &known, sizeof known, stream);
  constexpr int64_t kTeams = 8192;  // of 8 threads: they keep a GPU busy
  const int splits = int(std::clamp<int64_t>(kTeams / std::max<int64_t>(n, 1), 1, 64));
  launch(CatchUp{selection, state, rows, splits}, CatchUp::blocks(n, splits), stream);
}

}  // namespace entroselect::cuda
