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
//   grid      ceil(rows / 8) blocks of 256 threads, 32 threads per row
//   shared    4 KB; 2 syncs
//   valid     width >= d, values of any finite size
struct CodeRows {
  static constexpr int threads = 256, kTeam = 32;
  struct Shared {
    double norm2[threads], error2[threads];
    bool regular[threads];
  };

  Rows rows;
  const int64_t* index;  // which rows; null: from `first` on
  int64_t first, n;
  const double* centre;
  double scale;
  int64_t width;
  Coded out;

  template <class AnyBlock>
  ENTROSELECT_ANY void operator()(const AnyBlock& block, Shared& s) const {
    block.each([&](int t) {
      const int64_t i = block.index() * (threads / kTeam) + t / kTeam;
      s.norm2[t] = s.error2[t] = 0;
      s.regular[t] = true;
      if (i >= n) return;
      const int64_t row = index ? index[i] : first + i;
      const double length = length_of(rows, row);
      with_type(rows, row, [&](auto* p) {
        for (int64_t l = t % kTeam; l < width; l += kTeam) {
          const double x = l < rows.d ? (canonical(p, length, l) - centre[l]) * scale : 0.0;
          const bool fits = x <= kLargest && x >= -kLargest;
          const uint16_t code = fits ? float_to_half(float(x)) : uint16_t(0);
          const double kept = double(half_to_float(code));
          s.regular[t] = s.regular[t] && fits;
          s.norm2[t] += kept * kept;
          s.error2[t] += (x - kept) * (x - kept);
          out.codes[i * width + l] = code;
        }
        return 0;
      });
    });
    block.each([&](int t) {
      const int64_t i = block.index() * (threads / kTeam) + t / kTeam;
      if (t % kTeam || i >= n) return;
      for (int other = t + 1; other < t + kTeam; ++other) {
        s.norm2[t] += s.norm2[other];
        s.error2[t] += s.error2[other];
        s.regular[t] = s.regular[t] && s.regular[other];
      }
      if (!s.regular[t]) s.norm2[t] = 0;
      const double norm = sqrt(s.norm2[t]);
      // In float64 X itself is off by less than 2^-51 of its size; the rest is for subnormals.
      const double residual = sqrt(s.error2[t]) * (1 + 0x1p-20) + norm * 0x1p-48 + 0x1p-60;
      out.norm2[i] = float(s.norm2[t]);
      out.norm[i] = float_above(norm);
      out.residual[i] = s.regular[t] ? float_above(residual) : float(INFINITY);
    });
    block.each([&](int t) {
      const int64_t i = block.index() * (threads / kTeam) + t / kTeam;
      if (i >= n || s.regular[t - t % kTeam]) return;
      for (int64_t l = t % kTeam; l < width; l += kTeam) out.codes[i * width + l] = 0;
    });
  }
};

}  // namespace

void code(const Rows& rows, const int64_t* index, int64_t first, int64_t n, const double* centre,
          double scale, int64_t width, const Coded& out, Stream stream) {
  launch(CodeRows{rows, index, first, n, centre, scale, width, out}, (n + 7) / 8, stream);
}

}  // namespace entroselect::cuda
