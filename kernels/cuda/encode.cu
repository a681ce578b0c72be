// Codes rows for the filter: x~ = fp16(scale (x - centre)), with what the certificate needs to know
// of each (docs/exactness.md, "On a GPU").

#include "kernels.h"

namespace entroselect::cuda {

namespace {

constexpr double kLargest = 60000;  // values in the frame; fp16 ends at 65504

ENTROSELECT_ANY inline float float_above(double x) { return float(x * (1 + 0x1p-22)); }

// A row that cannot be coded stands for 0 with an infinite residual: every pair with it is decided
// by its canonical distance.
//
//   grid      ceil(rows / 8) blocks of 256 threads, a team of 32 threads per row
//   shared    none; no syncs
//   valid     width >= d, values of any finite size
struct CodeRows {
  static constexpr int threads = 256, kTeam = 32, teams = threads / kTeam;
  using Shared = NoShared;
  using Warp = Team<kTeam>;

  Rows rows;
  const int64_t* index;  // which rows; null: from `first` on
  int64_t first, n;
  const double* centre;
  double scale;
  int64_t width;
  Coded out;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared&) const {
    each_team<kTeam>(block, [&](const Warp& team) {
      const int64_t i = block.index() * teams + team.index;
      if (i >= n) return;
      const int64_t row = index ? index[i] : first + i;
      uint16_t* codes = out.codes + i * width;
      Warp::PerLane norm2, error2;
      team.each([&](int lane) {
        with_type(rows, row, [&](auto* p) {
          rows.lengths
              ? code<true>(lane, p, divisor_of(rows, row), codes, &norm2[lane], &error2[lane])
              : code<false>(lane, p, {}, codes, &norm2[lane], &error2[lane]);
          return 0;
        });
        const int64_t past = (rows.d - lane + kTeam - 1) / kTeam * kTeam;
        for (int64_t l = lane + past; l < width; l += kTeam) codes[l] = 0;
      });
      note(team, i, team.sum(norm2), team.sum(error2));
    });
  }

 private:
  // Columns lane, lane + 32, ... of a row, and their share of both sums.
  template <bool kDivide, class T>
  ENTROSELECT_ANY void code(int lane, const T* p, const Divisor& by, uint16_t* codes, double* norm2,
                            double* error2) const {
    struct Loaded {
      T x;
      double centre;
    };
    load_ahead<kTeam, 8>(
        lane, rows.d, [&](int64_t l) { return Loaded{fetch(p + l), fetch(centre + l)}; },
        [&](int64_t l, const Loaded& loaded) {
          const double x = (canonical<kDivide>(loaded.x, by) - loaded.centre) * scale;
          const bool fits = x <= kLargest && x >= -kLargest;
          const uint16_t code = fits ? float_to_half(float(x)) : uint16_t(0);
          const double kept = double(half_to_float(code));
          *norm2 += kept * kept;
          *error2 += fits ? (x - kept) * (x - kept) : double(INFINITY);
          codes[l] = code;
        });
  }

  // Row i's norm and residual; its codes become 0 if it cannot be coded.
  ENTROSELECT_ANY void note(const Warp& team, int64_t i, double norm2, double error2) const {
    const bool regular = error2 < double(INFINITY);
    if (!regular)
      team.each([&](int lane) {
        for (int64_t l = lane; l < width; l += kTeam) out.codes[i * width + l] = 0;
      });
    if (!team.leads()) return;
    if (!regular) norm2 = 0;
    const double norm = sqrt(norm2);
    // In float64 X itself is off by less than 2^-51 of its size; the rest is for subnormals.
    const double residual = sqrt(error2) * (1 + 0x1p-20) + norm * 0x1p-48 + 0x1p-60;
    out.norm2[i] = float(norm2);
    out.norm[i] = float_above(norm);
    out.residual[i] = regular ? float_above(residual) : float(INFINITY);
  }
};

}  // namespace

void code(const Rows& rows, const int64_t* index, int64_t first, int64_t n, const double* centre,
          double scale, int64_t width, const Coded& out, Stream stream) {
  launch(CodeRows{rows, index, first, n, centre, scale, width, out},
         (n + CodeRows::teams - 1) / CodeRows::teams, stream);
}

}  // namespace entroselect::cuda
