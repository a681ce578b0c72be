// Score tiles: a group of coded rows against a panel.
// A part of kernels.cpp, inside its namespace: compiled once per instruction set.

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
  // The rows left over are scored in a full tile, together with rows that were scored before: a
  // small tile takes as long as a full one.
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
