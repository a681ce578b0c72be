// Compiled once per instruction set (CMakeLists.txt sets ENTROSELECT_ISA and the flags), always
// with -ffp-contract=off: the canonical sums must not be fused; the score tiles fuse by intrinsics.
//
// No standard library templates here: the linker could keep a copy of them that was compiled for
// an instruction set the machine lacks.

#include "kernels.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define ENTROSELECT_JOIN2(a, b) a##b
#define ENTROSELECT_JOIN(a, b) ENTROSELECT_JOIN2(a, b)

namespace entroselect {
namespace {

// ---------------------------------------------------------------- canonical float64

typedef double Lanes __attribute__((vector_size(64)));
typedef float Float8 __attribute__((vector_size(32)));
typedef uint32_t Word8 __attribute__((vector_size(32)));
typedef int32_t Int8 __attribute__((vector_size(32)));
typedef uint16_t Half8 __attribute__((vector_size(16)));
typedef uint8_t Byte8 __attribute__((vector_size(8)));

struct F16 {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};

template <class V, class T>
inline V load_as(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline float half_to_float(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, magnitude = h & 0x7fff;
  if (magnitude < 0x400) {  // zero and subnormals: magnitude * 2^-24 is exact in float32
    const float f = float(magnitude) * 0x1p-24f;
    return sign ? -f : f;
  }
  // Infinities and NaNs keep an all-ones exponent.
  const uint32_t rebias = magnitude >= 0x7c00 ? 0x70000000u : 0x38000000u;
  const uint32_t bits = sign | ((magnitude << 13) + rebias);
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

inline Lanes load8(const double* p) { return load_as<Lanes>(p); }
inline Lanes load8(const float* p) { return __builtin_convertvector(load_as<Float8>(p), Lanes); }
inline Lanes load8(const uint8_t* p) {
  return __builtin_convertvector(__builtin_convertvector(load_as<Byte8>(p), Int8), Lanes);
}
inline Lanes load8(const Bf16* p) {
  const Word8 bits = __builtin_convertvector(load_as<Half8>(p), Word8) << 16;
  return __builtin_convertvector(load_as<Float8>(&bits), Lanes);
}
inline Lanes load8(const F16* p) {
  Float8 wide;
#if defined(__F16C__)
  const __m256 converted = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
  std::memcpy(&wide, &converted, sizeof wide);
#else
  for (int l = 0; l < 8; ++l) wide[l] = half_to_float(p[l].bits);
#endif
  return __builtin_convertvector(wide, Lanes);
}

// The last d % 8 values and zeros.
template <class T>
inline Lanes load_tail(const T* p, int64_t count) {
  T padded_values[8];
  std::memset(padded_values, 0, sizeof padded_values);
  std::memcpy(padded_values, p, size_t(count) * sizeof(T));
  return load8(padded_values);
}

// The fixed tree over the lanes: ((0+4)+(2+6)) + ((1+5)+(3+7)).
inline double add_lanes(Lanes v) {
  const double s0 = v[0] + v[4], s1 = v[1] + v[5], s2 = v[2] + v[6], s3 = v[3] + v[7];
  return (s0 + s2) + (s1 + s3);
}

template <class T, bool kDivide>
inline double distance_typed(const double* x, const T* y, int64_t d, double length) {
  Lanes sum = {};
  int64_t l = 0;
  for (; l + 8 <= d; l += 8) {
    Lanes value = load8(y + l);
    if (kDivide) value /= length;
    const Lanes difference = load8(x + l) - value;
    sum += difference * difference;
  }
  if (l < d) {
    Lanes value = load_tail(y + l, d - l);
    if (kDivide) value /= length;
    const Lanes difference = load8(x + l) - value;
    sum += difference * difference;
  }
  return add_lanes(sum);
}

// Calls f with the row as a pointer of its own type.
template <class F>
inline auto with_type(const Rows& rows, int64_t i, F f) {
  const void* p = rows.row(i);
  switch (rows.dtype) {
    case Dtype::f32: return f((const float*)p);
    case Dtype::f16: return f((const F16*)p);
    case Dtype::bf16: return f((const Bf16*)p);
    case Dtype::u8: return f((const uint8_t*)p);
    default: return f((const double*)p);
  }
}

double distance_to_row(const double* x, const Rows& rows, int64_t i) {
  return with_type(rows, i, [&](auto* y) {
    using T = typename std::remove_const<typename std::remove_pointer<decltype(y)>::type>::type;
    return rows.lengths ? distance_typed<T, true>(x, y, rows.d, rows.lengths[i])
                        : distance_typed<T, false>(x, y, rows.d, 1.0);
  });
}

double distance(const double* x, const double* y, int64_t d_padded) {
  return distance_typed<double, false>(x, y, d_padded, 1.0);
}

void load_row(const Rows& rows, int64_t i, double* out) {
  with_type(rows, i, [&](auto* p) {
    int64_t l = 0;
    for (; l < rows.d; l += 8) {
      Lanes value = rows.d - l >= 8 ? load8(p + l) : load_tail(p + l, rows.d - l);
      if (rows.lengths) value /= rows.lengths[i];
      std::memcpy(out + l, &value, sizeof value);
    }
    return 0;
  });
}

int64_t first_unusable(const Rows& rows, int64_t i, double largest) {
  return with_type(rows, i, [&](auto* p) {
    for (int64_t l = 0; l < rows.d; l += 8) {
      const Lanes value = rows.d - l >= 8 ? load8(p + l) : load_tail(p + l, rows.d - l);
      const auto usable = (value <= largest) & (value >= -largest);  // false for NaN
      for (int lane = 0; lane < 8; ++lane)
        if (!usable[lane]) return l + lane;
    }
    return int64_t(-1);
  });
}

// ---------------------------------------------------------------- rounding for the filter

// Values beyond this are cut off: their rows get a large residual and are always rechecked, while
// products of two of them stay finite in float32 up to 2^47 columns.
constexpr double kLargestRounded = 0x1p40;

Rounded round_row(const double* x, const double* centre, double scale, int64_t d, int64_t pairs,
                  uint16_t* out) {
  Lanes norm2 = {}, residual2 = {};
  for (int64_t l = 0; l < d; l += 8) {
    const int64_t count = d - l < 8 ? d - l : 8;
    const Lanes value = (load8(x + l) - load8(centre + l)) * scale;
    const Lanes most = Lanes{} + kLargestRounded;
    Lanes cut = value > most ? most : value;
    cut = cut < -most ? -most : cut;
    const Float8 narrow = __builtin_convertvector(cut, Float8);
    Word8 bits = load_as<Word8>(&narrow);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
    // Subnormal bf16 would be read as 0 by the products; make them 0 here, where it is counted.
    bits = (bits & 0x7f80) == 0 ? bits & 0 : bits;
    const Word8 widened = bits << 16;
    const Lanes kept = __builtin_convertvector(load_as<Float8>(&widened), Lanes);
    const Half8 stored = __builtin_convertvector(bits, Half8);
    std::memcpy(out + l, &stored, size_t(count) * sizeof(uint16_t));
    norm2 += kept * kept;
    residual2 += (value - kept) * (value - kept);
  }
  for (int64_t l = d; l < 2 * pairs; ++l) out[l] = 0;
  return {add_lanes(norm2), std::sqrt(add_lanes(residual2))};
}

void widen_rows(const uint16_t* in, int64_t pairs, float* out) {
  for (int64_t l = 0; l < 2 * pairs; ++l) {
    const uint32_t bits = uint32_t(in[l]) << 16;
    std::memcpy(out + l, &bits, sizeof bits);
  }
}

void widen_panel(const uint32_t* in, int64_t pairs, float* out) {
  for (int64_t p = 0; p < pairs; ++p) {
    uint32_t even[kPanel], odd[kPanel];
    for (int c = 0; c < kPanel; ++c) {
      even[c] = in[p * kPanel + c] << 16;
      odd[c] = in[p * kPanel + c] & 0xffff0000u;
    }
    std::memcpy(out + 2 * p * kPanel, even, sizeof even);
    std::memcpy(out + (2 * p + 1) * kPanel, odd, sizeof odd);
  }
}

// ---------------------------------------------------------------- score tiles

// Per instruction set: a vector of kWidth floats, how to start, extend and compare it, and how
// many rows a tile takes so that the accumulators fill the register file.

#if defined(__AVX512F__)
typedef __m512 Vector;
constexpr int kWidth = 16;
constexpr int kTileRows = 12;
inline Vector load_start(const float* p) { return _mm512_loadu_ps(p); }
inline uint32_t at_least(Vector v, float t) {
  return _mm512_cmp_ps_mask(v, _mm512_set1_ps(t), _CMP_NLT_UQ);
}
inline void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
#elif defined(__AVX2__)
typedef __m256 Vector;
constexpr int kWidth = 8;
constexpr int kTileRows = 3;
inline Vector load_start(const float* p) { return _mm256_loadu_ps(p); }
inline uint32_t at_least(Vector v, float t) {
  return uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_set1_ps(t), _CMP_NLT_UQ)));
}
inline void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
#elif defined(__aarch64__) && !defined(ENTROSELECT_PORTABLE)
typedef float32x4_t Vector;
constexpr int kWidth = 4;
constexpr int kTileRows = 3;
inline Vector load_start(const float* p) { return vld1q_f32(p); }
inline uint32_t at_least(Vector v, float t) {
  const uint32x4_t below = vcltq_f32(v, vdupq_n_f32(t));
  const uint32x4_t bit = {1, 2, 4, 8};
  return vaddvq_u32(vbicq_u32(bit, below));
}
inline void store(float* p, Vector v) { vst1q_f32(p, v); }
#else
typedef float Vector __attribute__((vector_size(16)));
constexpr int kWidth = 4;
constexpr int kTileRows = 1;
inline Vector load_start(const float* p) { return load_as<Vector>(p); }
inline uint32_t at_least(Vector v, float t) {
  uint32_t bits = 0;
  for (int l = 0; l < kWidth; ++l) bits |= uint32_t(!(v[l] < t)) << l;
  return bits;
}
inline void store(float* p, Vector v) { std::memcpy(p, &v, sizeof v); }
#endif

#if defined(__AVX512BF16__)
constexpr bool kReadsBf16 = true;
typedef __m512bh Column;
typedef uint32_t Scalar;
inline Column load_column(const void* panel, int64_t at) {
  return (Column)_mm512_loadu_si512((const uint32_t*)panel + at);
}
inline Vector extend(Vector sum, Column y, Scalar x) {
  return _mm512_dpbf16_ps(sum, y, (Column)_mm512_set1_epi32(int(x)));
}
#else
constexpr bool kReadsBf16 = false;
typedef Vector Column;
typedef float Scalar;
inline Column load_column(const void* panel, int64_t at) {
  return load_start((const float*)panel + at);
}
inline Vector extend(Vector sum, Column y, Scalar x) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(y, _mm512_set1_ps(x), sum);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(y, _mm256_set1_ps(x), sum);
#elif defined(__aarch64__) && !defined(ENTROSELECT_PORTABLE)
  return vfmaq_n_f32(sum, y, x);
#else
  return sum + y * x;
#endif
}
#endif

constexpr int kVectors = kPanel / kWidth;

template <int kRows>
inline void score_tile(const void* const* x, const void* panel, const float* start, int64_t steps,
                       const float* threshold, uint32_t* mask, float* scores) {
  Vector sum[kRows][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const Vector s = load_start(start + v * kWidth);
    for (int r = 0; r < kRows; ++r) sum[r][v] = s;
  }
  for (int64_t step = 0; step < steps; ++step) {
    Column y[kVectors];
    for (int v = 0; v < kVectors; ++v) y[v] = load_column(panel, step * kPanel + v * kWidth);
    for (int r = 0; r < kRows; ++r) {
      Scalar value;
      std::memcpy(&value, (const char*)x[r] + step * int64_t(sizeof(Scalar)), sizeof value);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = extend(sum[r][v], y[v], value);
    }
  }
  // Unrolled, or the compiler spills every sum to memory to index it by r.
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    uint32_t bits = 0;
    for (int v = 0; v < kVectors; ++v) bits |= at_least(sum[r][v], threshold[r]) << (v * kWidth);
    mask[r] = bits;
    if (bits)
      for (int v = 0; v < kVectors; ++v) store(scores + r * kPanel + v * kWidth, sum[r][v]);
  }
}

void score(const void* const* x, int nx, const void* panel, const float* start, int64_t pairs,
           const float* threshold, uint32_t* mask, float* scores) {
  const int64_t steps = kReadsBf16 ? pairs : 2 * pairs;
  int r = 0;
  for (; r + kTileRows <= nx; r += kTileRows)
    score_tile<kTileRows>(x + r, panel, start, steps, threshold + r, mask + r, scores + r * kPanel);
  constexpr int kHalf = kTileRows > 4 ? 4 : 1;
  for (; r + kHalf <= nx; r += kHalf)
    score_tile<kHalf>(x + r, panel, start, steps, threshold + r, mask + r, scores + r * kPanel);
  for (; r < nx; ++r)
    score_tile<1>(x + r, panel, start, steps, threshold + r, mask + r, scores + r * kPanel);
}

}  // namespace

#define ENTROSELECT_STRING2(x) #x
#define ENTROSELECT_STRING(x) ENTROSELECT_STRING2(x)

const Kernels ENTROSELECT_JOIN(kernels_, ENTROSELECT_ISA) = {
    ENTROSELECT_STRING(ENTROSELECT_ISA),
    kReadsBf16,
    distance_to_row,
    distance,
    load_row,
    first_unusable,
    round_row,
    widen_rows,
    widen_panel,
    score,
};

}  // namespace entroselect
