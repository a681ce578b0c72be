// Rows in device memory and their canonical distance (docs/exactness.md): the same bits as
// csrc/isa/kernels.cpp and entroselect/reference.py.
#pragma once

#include "block.cuh"

namespace entroselect::cuda {

enum class Dtype : int32_t { f64, f32, f16, bf16, u8 };

// A row whose canonical sum of squares is below kTinySquare is multiplied by kTinyScale, exactly,
// before it is measured and divided: its squares would underflow.
constexpr double kTinySquare = 0x1p-960, kTinyScale = 0x1p600;

// Row i starts at data + i * stride bytes, its d values are contiguous. With `lengths` (cosine),
// the row meant is data / lengths[i], element by element, or data * kTinyScale / -lengths[i] where
// that is negative.
struct Rows {
  const char* data = nullptr;
  int64_t stride = 0;
  int64_t d = 0;
  Dtype dtype = Dtype::f64;
  const double* lengths = nullptr;
};

struct F16 {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};

ENTROSELECT_ANY inline float float_of(uint32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

ENTROSELECT_ANY inline float half_to_float(uint16_t half) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(half));
#else
  const uint32_t sign = uint32_t(half & 0x8000) << 16, rest = half & 0x7fff;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | rest << 13);
  const float size =
      rest >= 0x0400 ? float_of((rest << 13) + (112u << 23)) : float(rest) * 0x1p-24f;  // subnormal
  return sign ? -size : size;
#endif
}

// To nearest, ties to even; |x| < 65520.
ENTROSELECT_ANY inline uint16_t float_to_half(float x) {
#if defined(__CUDA_ARCH__)
  return __half_as_ushort(__float2half_rn(x));
#else
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
  if (rest < 0x38800000)  // below 2^-14: a multiple of 2^-24
    return uint16_t(sign | uint32_t(std::nearbyint(float_of(rest) * 0x1p24f)));
  const uint32_t rounded = rest + 0xfff + (rest >> 13 & 1);
  return uint16_t(sign | (rounded - (112u << 23)) >> 13);
#endif
}

ENTROSELECT_ANY inline double widen(double x) { return x; }
ENTROSELECT_ANY inline double widen(float x) { return double(x); }
ENTROSELECT_ANY inline double widen(F16 x) { return double(half_to_float(x.bits)); }
ENTROSELECT_ANY inline double widen(Bf16 x) { return double(float_of(uint32_t(x.bits) << 16)); }
ENTROSELECT_ANY inline double widen(uint8_t x) { return double(x); }

// Calls f with row i as a pointer of its own type.
template <class F>
ENTROSELECT_ANY auto with_type(const Rows& rows, int64_t i, const F& f) {
  const char* p = rows.data + i * rows.stride;
  switch (rows.dtype) {
    case Dtype::f32: return f(reinterpret_cast<const float*>(p));
    case Dtype::f16: return f(reinterpret_cast<const F16*>(p));
    case Dtype::bf16: return f(reinterpret_cast<const Bf16*>(p));
    case Dtype::u8: return f(reinterpret_cast<const uint8_t*>(p));
    default: return f(reinterpret_cast<const double*>(p));
  }
}

// 0 where rows are taken as they are.
ENTROSELECT_ANY inline double length_of(const Rows& rows, int64_t i) {
  return rows.lengths ? rows.lengths[i] : 0.0;
}

template <class T>
ENTROSELECT_ANY double canonical(const T* row, double length, int64_t column) {
  const double value = widen(row[column]);
  if (length < 0) return divide(multiply(value, kTinyScale), -length);
  return length != 0 ? divide(value, length) : value;
}

// The sum of value(l)^2: column l goes to lane l % 8, in order of l; then ((0+4)+(2+6)) +
// ((1+5)+(3+7)).
template <class F>
ENTROSELECT_ANY double sum_of_squares(int64_t d, const F& value) {
  double sum[8] = {};
  const auto add_square = [&](int lane, int64_t l) {
    const double x = value(l);
    sum[lane] = add(sum[lane], multiply(x, x));
  };
  int64_t l = 0;
  for (; l + 8 <= d; l += 8)
    for (int lane = 0; lane < 8; ++lane) add_square(lane, l + lane);
  for (int lane = 0; lane < 8; ++lane)  // sum[] is indexed by constants only: it stays in registers
    if (l + lane < d) add_square(lane, l + lane);
  const double even = add(add(sum[0], sum[4]), add(sum[2], sum[6]));
  const double odd = add(add(sum[1], sum[5]), add(sum[3], sum[7]));
  return add(even, odd);
}

template <class A, class B>
ENTROSELECT_ANY double distance_typed(const A* a, double a_length, const B* b, double b_length,
                                      int64_t d) {
  return sum_of_squares(
      d, [&](int64_t l) { return subtract(canonical(a, a_length, l), canonical(b, b_length, l)); });
}

// Canonical squared distance. The rows are of one type, or b's are float64.
ENTROSELECT_CALLED double distance(const Rows& a, int64_t i, const Rows& b, int64_t j) {
  return with_type(a, i, [&](auto* p) {
    const char* q = b.data + j * b.stride;
    const double a_length = length_of(a, i), b_length = length_of(b, j);
    if (b.dtype == a.dtype)
      return distance_typed(p, a_length, reinterpret_cast<decltype(p)>(q), b_length, a.d);
    return distance_typed(p, a_length, reinterpret_cast<const double*>(q), b_length, a.d);
  });
}

}  // namespace entroselect::cuda
