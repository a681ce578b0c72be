// Rows in the frame of the filter, and their codes.
// A part of kernels.cpp, inside its namespace: compiled once per instruction set.

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

// The sum of 16 lanes, added in halves: Half is a vector of 8 of them.
template <class Half, class Whole>
inline auto add_halves(const Whole& v) {
  Half low, high;
  std::memcpy(&low, &v, sizeof low);
  std::memcpy(&high, (const char*)&v + sizeof low, sizeof high);
  const Half sum = low + high;
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

// Rows that cannot be coded: every pair with them is decided by its canonical distance.
Coded uncoded(uint32_t* out, int64_t words, double residual) {
  std::memset(out, 0, size_t(words) * sizeof(uint32_t));
  return {0, residual, 0, 0};
}

// Values beyond this are not coded, so that no product of two rows overflows. Values below this are
// coded as 0, so that no square of a difference that matters underflows.
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
  if (!(add_halves<Float8>(squares) < kLargestSquare)) return uncoded(out, words, INFINITY);
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
  for (int lane = 0; lane < 16; ++lane) total2 += norm2[lane];
  return {double(step) * double(step) * double(total2),
          std::sqrt(double(add_halves<Float8>(residual2))), step, add_halves<Int8>(sum)};
}

Coded code_halves(const float* x, int64_t d, int64_t words, int, uint32_t* out) {
  Float16 squares = {};
  for (int64_t l = 0; l < d; l += 16) {
    const Float16 v = load_as<Float16>(x + l);
    squares += v * v;
  }
  if (!(add_halves<Float8>(squares) < kLargestSquare)) return uncoded(out, words, INFINITY);
  Lanes norm2 = {};
  Float8 residual2 = {};
  for (int64_t l = 0; l < 2 * words; l += 8) {
    const Float8 v = load_as<Float8>(x + l);
    Word8 bits = load_as<Word8>(x + l);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
    // The products would read subnormal bfloat16 as 0. Make them 0 here, so that the residual has
    // it.
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
