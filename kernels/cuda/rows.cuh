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

ENTROSELECT_ANY inline F16 fetch(const F16* p) { return {fetch(&p->bits)}; }
ENTROSELECT_ANY inline Bf16 fetch(const Bf16* p) { return {fetch(&p->bits)}; }

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

// What Rows::lengths says of a row: its values are multiplied by `scale`, then divided by `length`.
struct Divisor {
  double scale = 1, length = 1;
};

ENTROSELECT_ANY inline Divisor divisor_of(const Rows& rows, int64_t i) {
  const double length = rows.lengths ? fetch(rows.lengths + i) : 1.0;
  if (length < 0) return {kTinyScale, -length};
  return {1, length != 0 ? length : 1.0};  // a row of zeros stays one
}

// A value of a row. Without kDivide, which is for rows that have lengths, the divisor is 1.
template <bool kDivide, class T>
ENTROSELECT_ANY double canonical(T x, const Divisor& by) {
  if (!kDivide) return widen(x);
  return divide(multiply(widen(x), by.scale), by.length);
}

// Calls use(l, load(l)) for l = first, first + kStep, ... < end, in that order. The loads of kAhead
// of them are issued before the first is used, so that a thread waits once for all.
template <int kStep, int kAhead, class Load, class Use>
ENTROSELECT_ANY void load_ahead(int64_t first, int64_t end, const Load& load, const Use& use) {
  decltype(load(first)) loaded[kAhead] = {};
  int64_t l = first;
  for (; l + kStep * (kAhead - 1) < end; l += kStep * kAhead) {
    ENTROSELECT_UNROLL
    for (int k = 0; k < kAhead; ++k) loaded[k] = load(l + k * kStep);
    ENTROSELECT_UNROLL
    for (int k = 0; k < kAhead; ++k) use(l + k * kStep, loaded[k]);
  }
  if (l >= end) return;
  ENTROSELECT_UNROLL
  for (int k = 0; k < kAhead - 1; ++k)
    if (l + k * kStep < end) loaded[k] = load(l + k * kStep);
  ENTROSELECT_UNROLL
  for (int k = 0; k < kAhead - 1; ++k)
    if (l + k * kStep < end) use(l + k * kStep, loaded[k]);
}

// The contract's eight lanes, one thread each.
constexpr int kLanes = 8;
using Lanes = Team<kLanes>;

// The sum of value(load(l))^2: column l goes to lane l % 8, in order of l; then ((0+4)+(2+6)) +
// ((1+5)+(3+7)).
template <int kAhead, class Load, class Value>
ENTROSELECT_ANY double sum_of_squares(const Lanes& team, int64_t d, const Load& load,
                                      const Value& value) {
  Lanes::PerLane sum;
  team.each([&](int lane) {
    load_ahead<kLanes, kAhead>(lane, d, load, [&](int64_t, const auto& loaded) {
      const double x = value(loaded);
      sum[lane] = add(sum[lane], multiply(x, x));
    });
  });
  return team.sum(sum);
}

template <bool kDivide, class A, class B>
ENTROSELECT_CALLED double distance_typed(Lanes team, const A* a, Divisor a_by, const B* b,
                                         Divisor b_by, int64_t d) {
  struct Loaded {
    A a;
    B b;
  };
  constexpr int kAhead = sizeof(A) + sizeof(B) > 12 ? 8 : 16;  // as registers allow
  return sum_of_squares<kAhead>(
      team, d, [&](int64_t l) { return Loaded{fetch(a + l), fetch(b + l)}; },
      [&](const Loaded& x) {
        return subtract(canonical<kDivide>(x.a, a_by), canonical<kDivide>(x.b, b_by));
      });
}

// Canonical squared distance, known to the whole team. The rows are of one type, or b's are
// float64.
ENTROSELECT_ANY inline double distance(const Lanes& team, const Rows& a, int64_t i, const Rows& b,
                                       int64_t j) {
  const Divisor a_by = divisor_of(a, i), b_by = divisor_of(b, j);
  const auto between = [&](auto* p, auto* q) {
    return a.lengths || b.lengths ? distance_typed<true>(team, p, a_by, q, b_by, a.d)
                                  : distance_typed<false>(team, p, a_by, q, b_by, a.d);
  };
  return with_type(a, i, [&](auto* p) {
    const char* q = b.data + j * b.stride;
    return b.dtype == a.dtype ? between(p, reinterpret_cast<decltype(p)>(q))
                              : between(p, reinterpret_cast<const double*>(q));
  });
}

}  // namespace entroselect::cuda
