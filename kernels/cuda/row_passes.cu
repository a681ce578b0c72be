// Passes over all rows: distances to a vector, lengths, roots, float64 rows, the mean.

#include "catch_up.cuh"
#include "kernels.h"

namespace entroselect::cuda {

namespace {

// out[i] <- canonical squared distance of row i to a vector.
//
//   grid      ceil(n / 256) blocks of 256 threads, one thread per row
//   shared    none; no syncs
struct DistancesTo {
  static constexpr int threads = 256;
  using Shared = NoShared;

  Rows rows, vector;
  int64_t n;
  double* out;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    block.each([&](int t) {
      const int64_t i = block.index() * threads + t;
      if (i < n) out[i] = distance(rows, i, vector, 0);
    });
  }
};

// out[i] <- what Rows::lengths holds for row i.
//
//   grid      ceil(n / 256) blocks of 256 threads, one thread per row
//   shared    none; no syncs
struct Lengths {
  static constexpr int threads = 256;
  using Shared = NoShared;

  Rows rows;
  int64_t n;
  double* out;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    block.each([&](int t) {
      const int64_t i = block.index() * threads + t;
      if (i >= n) return;
      const double squared = sum(i, 1);
      out[i] = squared >= kTinySquare ? square_root(squared) : -square_root(sum(i, kTinyScale));
    });
  }

  ENTROSELECT_ANY double sum(int64_t i, double scale) const {
    return with_type(rows, i, [&](auto* p) {
      return sum_of_squares(rows.d, [&](int64_t l) { return multiply(widen(p[l]), scale); });
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
      out[place] =
          with_type(rows, row, [&](auto* p) { return canonical(p, length_of(rows, row), column); });
    });
  }
};

// Adds up a column in the order of rows, as the contract says, and divides by their number.
//
//   grid      ceil(d / 32) blocks of 32 threads, one thread per column: a chain of n additions
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
      double sum = 0;
      for (int64_t i = 0; i < n; ++i)
        sum = add(sum,
                  with_type(rows, i, [&](auto* p) { return canonical(p, length_of(rows, i), l); }));
      out[l] = divide(sum, double(n));
    });
  }
};

}  // namespace

void distances_to(const Rows& rows, int64_t n, const Rows& vector, double* out, Stream stream) {
  launch(DistancesTo{rows, vector, n, out}, (n + 255) / 256, stream);
}

void lengths(const Rows& rows, int64_t n, double* out, Stream stream) {
  launch(Lengths{rows, n, out}, (n + 255) / 256, stream);
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
  launch(CatchUp{selection, state, rows, 1}, (n + CatchUp::threads - 1) / CatchUp::threads, stream);
}

}  // namespace entroselect::cuda
