// Compiled once per instruction set (CMakeLists.txt sets ENTROSELECT_ISA and the flags), always
// with -ffp-contract=off: the canonical sums must not be fused; the score tiles fuse by intrinsics.
//
// No standard library templates here: the linker could keep a copy of them that was compiled for
// an instruction set the machine lacks.

#include "isa/kernels.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#include "isa/squares.h"

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

// As Rows::lengths says.
inline Lanes over_length(Lanes value, double length) {
  return length < 0 ? value * kTinyScale / -length : value / length;
}

template <class T, bool kDivide>
inline double distance_typed(const double* x, const T* y, int64_t d, double length) {
  Lanes sum = {};
  int64_t l = 0;
  for (; l + 8 <= d; l += 8) {
    Lanes value = load8(y + l);
    if (kDivide) value = over_length(value, length);
    const Lanes difference = load8(x + l) - value;
    sum += difference * difference;
  }
  if (l < d) {
    Lanes value = load_tail(y + l, d - l);
    if (kDivide) value = over_length(value, length);
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
      if (rows.lengths) value = over_length(value, rows.lengths[i]);
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

// ---------------------------------------------------------------- leaves of a tree

// Distances of x to 8 rows of a leaf, from place `at`.
template <int D>
inline Lanes leaf_lanes(const double* x, const double* columns, int at) {
  Lanes q[D];
  for (int l = 0; l < D; ++l) {
    const Lanes difference = x[l] - load8(columns + l * kLeaf + at);
    q[l] = difference * difference;
  }
  return add_squares<D>(q);
}

inline uint32_t not_above(Lanes value, double limit) {
#if defined(__AVX512F__)
  return _mm512_cmp_pd_mask((__m512d)value, _mm512_set1_pd(limit), _CMP_LE_OQ);
#else
  const auto below = value <= limit;
  uint32_t mask = 0;
  for (int lane = 0; lane < 8; ++lane) mask |= uint32_t(below[lane] & 1) << lane;
  return mask;
#endif
}

uint32_t leaf_distances(const double* x, const double* columns, int64_t d, double limit,
                        double* out) {
  uint32_t mask = 0;
  with_width(d, [&](auto width) {
    for (int at = 0; at < kLeaf; at += 8) {
      const Lanes value = leaf_lanes<decltype(width)::value>(x, columns, at);
      std::memcpy(out + at, &value, sizeof value);
      mask |= not_above(value, limit) << at;
    }
  });
  return mask;
}

int lower_leaf(const double* x, const double* columns, int64_t d, double* bounds) {
  Lanes most = Lanes{} - 1.0;
  with_width(d, [&](auto width) {
    for (int at = 0; at < kLeaf; at += 8) {
      const Lanes value = leaf_lanes<decltype(width)::value>(x, columns, at);
      Lanes bound = load8(bounds + at);
      bound = value < bound ? value : bound;
      std::memcpy(bounds + at, &bound, sizeof bound);
      most = bound > most ? bound : most;
    }
  });
  double largest = most[0];
  for (int lane = 1; lane < 8; ++lane) largest = most[lane] > largest ? most[lane] : largest;
  int place = 0;
  while (bounds[place] != largest) ++place;
  return place;
}

// ---------------------------------------------------------------- frames and codes of the filter

typedef float Float16 __attribute__((vector_size(64)));
typedef int32_t Int16 __attribute__((vector_size(64)));
typedef int8_t Byte16 __attribute__((vector_size(16)));

inline Float8 widen8(const float* p) { return load_as<Float8>(p); }
inline Float8 widen8(const uint8_t* p) {
  return __builtin_convertvector(__builtin_convertvector(load_as<Byte8>(p), Int8), Float8);
}
inline Float8 widen8(const Bf16* p) {
  const Word8 bits = __builtin_convertvector(load_as<Half8>(p), Word8) << 16;
  return load_as<Float8>(&bits);
}
inline Float8 widen8(const F16* p) {
  Float8 wide;
#if defined(__F16C__)
  const __m256 converted = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
  std::memcpy(&wide, &converted, sizeof wide);
#else
  for (int l = 0; l < 8; ++l) wide[l] = half_to_float(p[l].bits);
#endif
  return wide;
}
inline Float8 widen8(const double* p) { return __builtin_convertvector(load8(p), Float8); }

void frame_row(const Rows& rows, int64_t i, const float* centre, float scale, float* out) {
  with_type(rows, i, [&](auto* p) {
    using T = typename std::remove_const<typename std::remove_pointer<decltype(p)>::type>::type;
    int64_t l = 0;
    for (; l + 8 <= rows.d; l += 8) {
      const Float8 value = (widen8(p + l) - widen8(centre + l)) * scale;
      std::memcpy(out + l, &value, sizeof value);
    }
    if (l < rows.d) {
      T padded_values[8];
      std::memset(padded_values, 0, sizeof padded_values);
      std::memcpy(padded_values, p + l, size_t(rows.d - l) * sizeof(T));
      const Float8 value = (widen8(padded_values) - widen8(centre + l)) * scale;
      std::memcpy(out + l, &value, sizeof value);
    }
    return 0;
  });
}

void frame_doubles(const double* x, const double* centre, double scale, int64_t d, float* out) {
  for (int64_t l = 0; l < d; l += 8) {
    const Lanes value = (load8(x + l) - load8(centre + l)) * scale;
    const Lanes most = Lanes{} + 0x1p120;  // still a float32; far too large to be coded
    Lanes cut = value > most ? most : value;
    cut = cut < -most ? -most : cut;
    const Float8 narrow = __builtin_convertvector(cut, Float8);
    std::memcpy(out + l, &narrow, sizeof narrow);
  }
}

// One Walsh-Hadamard transform of `size` (a power of two, at least 16) values, after a change of
// signs. Orthogonal; every output depends on every input.
void rotate_window(float* x, const float* signs, int64_t size) {
  const Float8 norm = Float8{} + float(1 / std::sqrt(double(size)));
  for (int64_t l = 0; l < size; l += 8) {
    Float8 v = load_as<Float8>(x + l) * load_as<Float8>(signs + l) * norm;
    v = __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6) +
        v * Float8{1, -1, 1, -1, 1, -1, 1, -1};
    v = __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5) +
        v * Float8{1, 1, -1, -1, 1, 1, -1, -1};
    v = __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3) +
        v * Float8{1, 1, 1, 1, -1, -1, -1, -1};
    std::memcpy(x + l, &v, sizeof v);
  }
  for (int64_t half = 8; half < size; half *= 2)
    for (int64_t block = 0; block < size; block += 2 * half)
      for (int64_t l = block; l < block + half; l += 8) {
        const Float8 a = load_as<Float8>(x + l), b = load_as<Float8>(x + l + half);
        const Float8 sum = a + b, difference = a - b;
        std::memcpy(x + l, &sum, sizeof sum);
        std::memcpy(x + l + half, &difference, sizeof difference);
      }
}

inline float add_floats(Float16 v) {
  float sum = 0;
  for (int l = 0; l < 16; ++l) sum += v[l];
  return sum;
}

// Rows that cannot be coded: every pair with them is decided by its canonical distance.
Coded uncoded(uint32_t* out, int64_t words, double residual) {
  std::memset(out, 0, size_t(words) * sizeof(uint32_t));
  return {0, residual, 0, 0};
}

// What lies beyond is not coded, so that no product of two rows overflows; what lies below is
// coded as 0, so that no square of a difference that counts underflows.
constexpr float kLargestSquare = 0x1p100f, kSmallest = 0x1p-40f;

Coded code_bytes(const float* x, int64_t d, int64_t words, int levels, uint32_t* out) {
  Float16 squares = {}, most = {};
  for (int64_t l = 0; l < d; l += 16) {
    const Float16 v = load_as<Float16>(x + l);
    const Float16 size = v < 0 ? -v : v;
    squares += v * v;
    most = size > most ? size : most;
  }
  float largest = 0;
  for (int l = 0; l < 16; ++l) largest = most[l] > largest ? most[l] : largest;
  if (!(add_floats(squares) < kLargestSquare)) return uncoded(out, words, INFINITY);
  if (largest < kSmallest) return uncoded(out, words, std::sqrt(double(d)) * kSmallest);
  const float step = largest / float(levels), inverse = float(levels) / largest;
  // Adding and taking away 1.5 2^23 rounds to integers.
  const Float16 shift = Float16{} + 0x1.8p23f;
  Float16 residual2 = {};
  Int16 norm2 = {}, sum = {};
  for (int64_t l = 0; l < 4 * words; l += 16) {
    const Float16 v = load_as<Float16>(x + l);
    const Float16 whole = (v * inverse + shift) - shift;
    const Float16 rest = v - whole * step;
    residual2 += rest * rest;
    const Int16 q = __builtin_convertvector(whole, Int16);
    sum += q;
    norm2 += q * q;
    const Byte16 bytes = __builtin_convertvector(q, Byte16);
    const int64_t left = 4 * words - l;
    std::memcpy((char*)out + l, &bytes, left < 16 ? size_t(left) : 16);
  }
  int64_t total2 = 0;
  int32_t total = 0;
  for (int lane = 0; lane < 16; ++lane) {
    total2 += norm2[lane];
    total += sum[lane];
  }
  return {double(step) * double(step) * double(total2), std::sqrt(double(add_floats(residual2))),
          step, total};
}

Coded code_halves(const float* x, int64_t d, int64_t words, int, uint32_t* out) {
  Float16 squares = {};
  for (int64_t l = 0; l < d; l += 16) {
    const Float16 v = load_as<Float16>(x + l);
    squares += v * v;
  }
  if (!(add_floats(squares) < kLargestSquare)) return uncoded(out, words, INFINITY);
  Lanes norm2 = {};
  Float8 residual2 = {};
  for (int64_t l = 0; l < 2 * words; l += 8) {
    const Float8 v = load_as<Float8>(x + l);
    Word8 bits = load_as<Word8>(x + l);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
    // Subnormal bf16 would be read as 0 by the products; make them 0 here, where it is counted.
    bits = (bits & 0x7f80) == 0 ? bits & 0 : bits;
    const Word8 widened = bits << 16;
    const Float8 kept = load_as<Float8>(&widened), rest = v - kept;
    const Lanes wide = __builtin_convertvector(kept, Lanes);
    norm2 += wide * wide;
    residual2 += rest * rest;
    const Half8 stored = __builtin_convertvector(bits, Half8);
    const int64_t left = 2 * words - l;
    std::memcpy((uint16_t*)out + l, &stored, size_t(left < 8 ? left : 8) * sizeof(uint16_t));
  }
  float residual = 0;
  for (int lane = 0; lane < 8; ++lane) residual += residual2[lane];
  return {add_lanes(norm2), std::sqrt(double(residual)), 1, 0};
}

void widen_row(const uint32_t* in, int64_t words, float* out) {
  for (int64_t l = 0; l < words; ++l) {
    const uint32_t pair[2] = {in[l] << 16, in[l] & 0xffff0000u};
    std::memcpy(out + 2 * l, pair, sizeof pair);
  }
}

void widen_panel(const uint32_t* in, int64_t words, float* out) {
  for (int64_t p = 0; p < words; ++p) {
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

// Per instruction set: a vector of kWidth floats, how to extend and compare it, and how many rows
// a tile takes so that the accumulators fill the register file.

#if defined(__AVX512F__)
typedef __m512 Vector;
constexpr int kWidth = 16;
constexpr int kTileRows = 12;
inline Vector load_floats(const float* p) { return _mm512_loadu_ps(p); }
inline Vector all(float value) { return _mm512_set1_ps(value); }
inline uint32_t at_least(Vector v, Vector t) { return _mm512_cmp_ps_mask(v, t, _CMP_NLT_UQ); }
inline void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
inline Vector multiply_add(Vector a, float b, Vector c) {
  return _mm512_fmadd_ps(a, _mm512_set1_ps(b), c);
}
#elif defined(__AVX2__)
typedef __m256 Vector;
constexpr int kWidth = 8;
constexpr int kTileRows = 3;
inline Vector load_floats(const float* p) { return _mm256_loadu_ps(p); }
inline Vector all(float value) { return _mm256_set1_ps(value); }
inline uint32_t at_least(Vector v, Vector t) {
  return uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(v, t, _CMP_NLT_UQ)));
}
inline void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
inline Vector multiply_add(Vector a, float b, Vector c) {
  return _mm256_fmadd_ps(a, _mm256_set1_ps(b), c);
}
#elif defined(__aarch64__) && !defined(ENTROSELECT_PORTABLE)
typedef float32x4_t Vector;
constexpr int kWidth = 4;
constexpr int kTileRows = 3;
inline Vector load_floats(const float* p) { return vld1q_f32(p); }
inline Vector all(float value) { return vdupq_n_f32(value); }
inline uint32_t at_least(Vector v, Vector t) {
  const uint32x4_t below = vcltq_f32(v, t);
  const uint32x4_t bit = {1, 2, 4, 8};
  return vaddvq_u32(vbicq_u32(bit, below));
}
inline void store(float* p, Vector v) { vst1q_f32(p, v); }
inline Vector multiply_add(Vector a, float b, Vector c) { return vfmaq_n_f32(c, a, b); }
#else
typedef float Vector __attribute__((vector_size(16)));
constexpr int kWidth = 4;
constexpr int kTileRows = 1;
inline Vector load_floats(const float* p) { return load_as<Vector>(p); }
inline Vector all(float value) { return Vector{} + value; }
inline uint32_t at_least(Vector v, Vector t) {
  uint32_t bits = 0;
  for (int l = 0; l < kWidth; ++l) bits |= uint32_t(!(v[l] < t[l])) << l;
  return bits;
}
inline void store(float* p, Vector v) { std::memcpy(p, &v, sizeof v); }
inline Vector multiply_add(Vector a, float b, Vector c) { return a * b + c; }
#endif

constexpr int kVectors = kPanel / kWidth;

// Products of float32, or of bfloat16 pairs: the sum starts as -||y||^2 / 2 and ends as the score.
struct Halves {
#if defined(__AVX512BF16__)
  static constexpr bool kWide = false;
  typedef __m512bh Column;
  static Column load(const void* panel, int64_t at) {
    return (Column)_mm512_loadu_si512((const uint32_t*)panel + at);
  }
  static Vector extend(Vector sum, Column y, uint32_t x) {
    return _mm512_dpbf16_ps(sum, y, (Column)_mm512_set1_epi32(int(x)));
  }
#else
  static constexpr bool kWide = true;
  typedef Vector Column;
  static Column load(const void* panel, int64_t at) {
    return load_floats((const float*)panel + at);
  }
  static Vector extend(Vector sum, Column y, uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return multiply_add(y, x, sum);
  }
#endif
  typedef Vector Sum;
  static constexpr int kRows = kTileRows;
  static Sum first(const Tile& tile, int, int v) { return load_floats(tile.start + v * kWidth); }
  static Vector score(const Tile&, int, int, Sum sum) { return sum; }
};

// Products of bytes, four to a word: of signed codes x, and of y as they are or, where the unit
// wants unsigned bytes, y + 128, which adds 128 times the sum of x and starts as minus that.
#if defined(__AVX512F__) || defined(__AVX2__) || defined(__ARM_FEATURE_DOTPROD)
#define ENTROSELECT_BYTES
struct Bytes {
#if defined(__AVX512F__)
  typedef __m512i Sum;
  typedef __m512i Column;
  static Column load(const void* panel, int64_t at) {
    return _mm512_loadu_si512((const uint32_t*)panel + at);
  }
  static Sum same(int32_t value) { return _mm512_set1_epi32(value); }
  static Vector to_float(Sum sum) { return (Vector) __builtin_convertvector((Int16)sum, Float16); }
  static Vector multiply(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
#if defined(__AVX512VNNI__)
  static constexpr int kRowLevels = 127;
  static Sum extend(Sum sum, Column y, uint32_t x) {
    // Not the intrinsic: around that, GCC 12 keeps two copies of every sum and spills half of them.
    const __m512i broadcast = _mm512_set1_epi32(int(x));
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(y), "v"(broadcast));
    return sum;
  }
#else
  static constexpr int kRowLevels = 63;  // 2 * 255 * 63 fits into 16 bits
  static Sum extend(Sum sum, Column y, uint32_t x) {
    const __m512i pairs = _mm512_maddubs_epi16(y, _mm512_set1_epi32(int(x)));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
#endif
#elif defined(__AVX2__)
  typedef __m256i Sum;
  typedef __m256i Column;
  static Column load(const void* panel, int64_t at) {
    return _mm256_loadu_si256((const __m256i*)((const uint32_t*)panel + at));
  }
  static Sum same(int32_t value) { return _mm256_set1_epi32(value); }
  static Vector to_float(Sum sum) { return _mm256_cvtepi32_ps(sum); }
  static Vector multiply(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
#if defined(__AVXVNNI__)
  static constexpr int kRowLevels = 127;
  static Sum extend(Sum sum, Column y, uint32_t x) {
    const __m256i broadcast = _mm256_set1_epi32(int(x));
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(y), "x"(broadcast));
    return sum;
  }
#else
  static constexpr int kRowLevels = 63;
  static Sum extend(Sum sum, Column y, uint32_t x) {
    const __m256i pairs = _mm256_maddubs_epi16(y, _mm256_set1_epi32(int(x)));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
#endif
#else
  typedef int32x4_t Sum;
  typedef int8x16_t Column;
  static constexpr int kRowLevels = 127;
  static Column load(const void* panel, int64_t at) {
    return vld1q_s8((const int8_t*)((const uint32_t*)panel + at));
  }
  static Sum same(int32_t value) { return vdupq_n_s32(value); }
  static Vector to_float(Sum sum) { return vcvtq_f32_s32(sum); }
  static Vector multiply(Vector a, Vector b) { return vmulq_f32(a, b); }
  static Sum extend(Sum sum, Column y, uint32_t x) {
    return vdotq_s32(sum, y, vreinterpretq_s8_u32(vdupq_n_u32(x)));
  }
#endif
#if defined(__aarch64__)
  static constexpr int kOffset = 0;
#else
  static constexpr int kOffset = 128;
#endif
  static constexpr int kRows = kTileRows;
  static Sum first(const Tile& tile, int r, int) { return same(-kOffset * tile.row_sum[r]); }
  static Vector score(const Tile& tile, int r, int v, Sum sum) {
    const Vector product = multiply(to_float(sum), load_floats(tile.column_step + v * kWidth));
    return multiply_add(product, tile.row_step[r], load_floats(tile.start + v * kWidth));
  }
};
#endif

template <class Arithmetic, int kRows>
inline uint64_t score_tile(const Tile& tile, int first, int64_t steps) {
  typename Arithmetic::Sum sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Arithmetic::first(tile, first + r, v);
  const void* const* x = tile.x + first;
  for (int64_t step = 0; step < steps; ++step) {
    typename Arithmetic::Column y[kVectors];
    for (int v = 0; v < kVectors; ++v)
      y[v] = Arithmetic::load(tile.panel, step * kPanel + v * kWidth);
    for (int r = 0; r < kRows; ++r) {
      uint32_t value;
      std::memcpy(&value, (const char*)x[r] + step * int64_t(sizeof value), sizeof value);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Arithmetic::extend(sum[r][v], y[v], value);
    }
  }
  uint64_t any = 0;
  // Unrolled, or the compiler spills every sum to memory to index it by r.
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    uint32_t bits = 0;
    Vector score[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      score[v] = Arithmetic::score(tile, first + r, v, sum[r][v]);
      bits |= at_least(score[v], all(tile.threshold[first + r])) << (v * kWidth);
      if (tile.column_limit)
        bits |= at_least(score[v] - all(tile.row_half[first + r]),
                         load_floats(tile.column_limit + v * kWidth))
                << (v * kWidth);
    }
    tile.mask[first + r] = bits;
    if (bits) {
      any |= uint64_t(1) << (first + r);
      for (int v = 0; v < kVectors; ++v)
        store(tile.scores + (first + r) * kPanel + v * kWidth, score[v]);
    }
  }
  return any;
}

template <class Arithmetic>
inline uint64_t score_all(const Tile& tile, int64_t steps) {
  constexpr int kRows = Arithmetic::kRows;
  uint64_t any = 0;
  int r = 0;
  for (; r + kRows <= tile.rows; r += kRows) any |= score_tile<Arithmetic, kRows>(tile, r, steps);
  // What is left over is scored together with rows that have been scored already: a tile of few
  // rows takes as long as one of some more.
  constexpr int kHalf = kRows > 4 ? 4 : 1;
  if (r < tile.rows && tile.rows - r > kHalf && tile.rows >= kRows)
    return any | score_tile<Arithmetic, kRows>(tile, tile.rows - kRows, steps);
  for (; r + kHalf <= tile.rows; r += kHalf) any |= score_tile<Arithmetic, kHalf>(tile, r, steps);
  if (r < tile.rows && tile.rows >= kHalf)
    return any | score_tile<Arithmetic, kHalf>(tile, tile.rows - kHalf, steps);
  for (; r < tile.rows; ++r) any |= score_tile<Arithmetic, 1>(tile, r, steps);
  return any;
}

uint64_t score_halves(const Tile& tile) {
  return score_all<Halves>(tile, Halves::kWide ? 2 * tile.words : tile.words);
}

#if defined(ENTROSELECT_BYTES)
uint64_t score_bytes(const Tile& tile) { return score_all<Bytes>(tile, tile.words); }
constexpr int kRowLevels = Bytes::kRowLevels, kOffset = Bytes::kOffset;
#else
constexpr uint64_t (*score_bytes)(const Tile&) = nullptr;
constexpr int kRowLevels = 0, kOffset = 0;
#endif

}  // namespace

#define ENTROSELECT_STRING2(x) #x
#define ENTROSELECT_STRING(x) ENTROSELECT_STRING2(x)

const Kernels ENTROSELECT_JOIN(kernels_, ENTROSELECT_ISA) = {
    ENTROSELECT_STRING(ENTROSELECT_ISA),
    Halves::kWide,
    kRowLevels,
    kOffset,
    distance_to_row,
    distance,
    leaf_distances,
    lower_leaf,
    load_row,
    first_unusable,
    frame_row,
    frame_doubles,
    rotate_window,
    code_bytes,
    code_halves,
    widen_row,
    widen_panel,
    score_bytes,
    score_halves,
};

}  // namespace entroselect
