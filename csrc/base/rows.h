// Rows as the caller handed them in: never copied, never changed.
#pragma once

#include <cstdint>

namespace entroselect {

enum class Dtype : int32_t { f64, f32, f16, bf16, u8 };

// A row whose canonical sum of squares is below kTinySquare is multiplied by kTinyScale, exactly,
// before it is measured and divided: its squares would underflow.
constexpr double kTinySquare = 0x1p-960, kTinyScale = 0x1p600;

// n rows of d values. Row i starts at data + i * stride bytes, its values are contiguous.
// With `lengths` (cosine), the row meant is data / lengths[i], element by element in float64, or
// data * kTinyScale / -lengths[i] where that is negative (isa/lengths.h).
struct Rows {
  const char* data = nullptr;
  int64_t stride = 0;
  int64_t n = 0;
  int64_t d = 0;
  Dtype dtype = Dtype::f64;
  const double* lengths = nullptr;

  const void* row(int64_t i) const { return data + i * stride; }

  // A row that will be read soon and may lie anywhere in memory.
  void prefetch(int64_t i) const {
    constexpr int64_t kLine = 64, kWidth[] = {8, 4, 2, 2, 1};
    for (int64_t at = 0; at < d * kWidth[int(dtype)]; at += kLine)
      __builtin_prefetch(data + i * stride + at);
  }
};

// d rounded up to the lanes of the canonical sum; padding columns are 0 and change no bit.
inline int64_t padded(int64_t d) { return (d + 7) / 8 * 8; }

}  // namespace entroselect
