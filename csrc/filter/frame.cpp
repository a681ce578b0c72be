#include "filter/frame.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace entroselect {

namespace {
constexpr int64_t kMostBytes = 60000;  // columns, so that 255 * 127 * d stays below 2^31
constexpr int64_t kLeastSample = 32, kPerSampled = 16;  // a small pool's frame: one row in 16
constexpr double kWorthRotating = 0.8;
constexpr double kFloatExponents = 100;  // scales beyond 2^+-100 are applied in float64

double median(std::vector<double>& values) {
  const auto middle = values.begin() + int64_t(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

constexpr int64_t words_of(Form form, int64_t d) {
  return form == Form::bytes ? (d + 3) / 4 : (d + 1) / 2;
}
static_assert(4 * words_of(Form::bytes, 1) <= code_bytes(1),
              "the one width where bytes are longer");
static_assert(4 * words_of(Form::halves, 7) <= code_bytes(7),
              "two bytes a column, and whole words");

// Roundings that a term of a score passes through: the conversion of an exact sum, two products and
// an addition; or one for each column and one for the start value.
double roundings(Form form, int64_t d) { return form == Form::bytes ? 8 : double(d + 5); }
}  // namespace

Form best_form(const Kernels& kernels, int64_t d) {
  return kernels.score_bytes && d <= kMostBytes ? Form::bytes : Form::halves;
}

Frame::Frame(const Rows& rows, const Kernels& kernels, Form form)
    : form(form),
      d(rows.d),
      words(words_of(form, rows.d)),
      columns_are_rows(form == Form::halves || kernels.row_levels == 127),
      scale(1),
      certificate(rows.d, roundings(form, rows.d), 1),
      centre_(size_t(padded(rows.d)), 0.0) {
  const int64_t count = std::min(rows.n, std::clamp(rows.n / kPerSampled, kLeastSample, kSample));
  const int64_t width = padded(d);
  Buffer<double> sample(count * width);
  for (int64_t s = 0; s < count; ++s)
    kernels.load_row(rows, s * rows.n / count, sample.get() + s * width);
  find_frame(sample.get(), count);
  const bool narrow = rows.dtype != Dtype::f64 && !rows.lengths;
  if (narrow && std::fabs(std::log2(scale)) <= kFloatExponents)
    float_centre_.assign(centre_.begin(), centre_.end());
  certificate = Certificate(d, roundings(form, d), scale);
  if (form != Form::bytes || d < 16) return;

  const double plain = residuals(rows, kernels, count);
  window_ = 16;
  while (2 * window_ <= d) window_ *= 2;
  uint64_t state = 1;
  for (int64_t l = 0; l < 2 * window_; ++l) {  // a linear congruential generator's top bit
    state = state * 6364136223846793005u + 1442695040888963407u;
    signs_.push_back(state >> 63 ? 1.0f : -1.0f);
  }
  if (!(residuals(rows, kernels, count) < kWorthRotating * plain)) signs_.clear();
}

void Frame::find_frame(const double* sample, int64_t count) {
  const int64_t width = padded(d);
  std::vector<double> column(static_cast<size_t>(count));
  for (int64_t l = 0; l < d; ++l) {
    for (int64_t s = 0; s < count; ++s) column[size_t(s)] = sample[s * width + l];
    const double middle = median(column);
    // A centre in float32, if it is within range: rows of float32 then have a single rounding.
    centre_[size_t(l)] = std::fabs(middle) < 0x1p126 ? double(float(middle)) : middle;
  }
  std::vector<double> largest;
  for (int64_t s = 0; s < count; ++s) {
    double m = 0;
    for (int64_t l = 0; l < d; ++l)
      m = std::max(m, std::fabs(sample[s * width + l] - centre_[size_t(l)]));
    if (m > 0) largest.push_back(m);
  }
  if (!largest.empty())
    scale = std::ldexp(1.0, -std::clamp(std::ilogb(median(largest)), -900, 900));
}

// The residuals of the sample's rows if they were coded in this frame; rows too far out to be coded
// do not count.
double Frame::residuals(const Rows& rows, const Kernels& kernels, int64_t count) const {
  Coder coder(*this, kernels);
  std::vector<uint32_t> code(static_cast<size_t>(words));
  double sum = 0;
  for (int64_t s = 0; s < count; ++s) {
    const double residual = coder.row(rows, s * rows.n / count, code.data()).residual;
    if (std::isfinite(residual)) sum += residual;
  }
  return sum;
}

Coder::Coder(const Frame& frame, const Kernels& kernels)
    : frame_(frame),
      kernels_(kernels),
      canonical_(padded(frame.d)),
      framed_((frame.d + 15) / 16 * 16) {
  std::memset(framed_.get(), 0, size_t((frame.d + 15) / 16 * 16) * sizeof(float));
}

Coded Coder::code(const Rows& rows, int64_t i, int levels, uint32_t* out) {
  float* framed = framed_.get();
  // Queries may be of another type than the points whose frame this is.
  if (!frame_.float_centre_.empty() && rows.dtype != Dtype::f64 && !rows.lengths) {
    kernels_.frame_row(rows, i, frame_.float_centre_.data(), float(frame_.scale), framed);
  } else {
    kernels_.load_row(rows, i, canonical_.get());
    kernels_.frame_doubles(canonical_.get(), frame_.centre_.data(), frame_.scale, frame_.d, framed);
  }
  if (!frame_.signs_.empty()) {
    const int64_t size = frame_.window_;
    kernels_.rotate_window(framed, frame_.signs_.data(), size);
    if (size < frame_.d)
      kernels_.rotate_window(framed + (frame_.d - size), frame_.signs_.data() + size, size);
  }
  const auto encode = frame_.form == Form::bytes ? kernels_.code_bytes : kernels_.code_halves;
  Coded coded = encode(framed, frame_.d, frame_.words, levels, out);
  coded.residual = frame_.certificate.residual(coded.residual, coded.norm2);
  return coded;
}

}  // namespace entroselect
