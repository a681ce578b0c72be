// Rows in canonical float64, their distances, and the leaves of a tree.
// A part of kernels.cpp, inside its namespace: compiled once per instruction set.

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

// As in Rows::lengths.
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
    const auto usable = [&](int64_t l) {
      const Lanes value = rows.d - l >= 8 ? load8(p + l) : load_tail(p + l, rows.d - l);
      return (value <= largest) & (value >= -largest);  // false for NaN
    };
    auto all = usable(0);
    for (int64_t l = 8; l < rows.d; l += 8) all &= usable(l);
    bool good = true;
    for (int lane = 0; lane < 8; ++lane) good &= bool(all[lane]);
    for (int64_t l = 0; !good; ++l)
      if (!usable(l / 8 * 8)[l % 8]) return l;
    return int64_t(-1);
  });
}

// ---------------------------------------------------------------- leaves of a tree

// Rows or boxes side by side, as many as a register holds: comparisons of wider vectors become
// scalar code.
#if defined(__AVX512F__)
typedef double Side __attribute__((vector_size(64)));
#elif defined(__AVX2__)
typedef double Side __attribute__((vector_size(32)));
#else
typedef double Side __attribute__((vector_size(16)));
#endif
constexpr int kSide = sizeof(Side) / sizeof(double);
static_assert(kLeaf % kSide == 0 && 8 % kSide == 0, "no rest");

inline Side side(const double* p) { return load_as<Side>(p); }
inline Side lesser(Side a, Side b) { return a < b ? a : b; }
inline Side greater(Side a, Side b) { return a > b ? a : b; }

// Bit j of the result is set where a[j] < b[j].
inline uint32_t less(Side a, Side b) {
#if defined(__AVX512F__)
  return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ);
#elif defined(__AVX2__)
  return uint32_t(_mm256_movemask_pd((__m256d)(a < b)));
#elif defined(__x86_64__)
  return uint32_t(_mm_movemask_pd((__m128d)(a < b)));
#else
  const auto smaller = a < b;
  return uint32_t(smaller[0] & 1) | uint32_t(smaller[1] & 2);
#endif
}

inline uint32_t not_less(Side a, Side b) { return less(a, b) ^ ((1u << kSide) - 1); }

inline double largest_of(Side value) {
  double largest = value[0];
  for (int lane = 1; lane < kSide; ++lane) largest = value[lane] > largest ? value[lane] : largest;
  return largest;
}

// Distances of x to the rows of a leaf from place `at`.
template <int D>
inline Side leaf_side(const double* x, const double* columns, int at) {
  Side q[D];
  for (int l = 0; l < D; ++l) {
    const Side difference = x[l] - side(columns + l * kLeaf + at);
    q[l] = difference * difference;
  }
  return add_squares<D>(q);
}

uint32_t leaf_distances(const double* x, const double* columns, int64_t d, double limit,
                        double* out) {
  uint32_t mask = 0;
  with_width(d, [&](auto width) {
    for (int at = 0; at < kLeaf; at += kSide) {
      const Side value = leaf_side<decltype(width)::value>(x, columns, at);
      std::memcpy(out + at, &value, sizeof value);
      mask |= not_less(Side{} + limit, value) << at;
    }
  });
  return mask;
}

int lower_leaf(const double* x, const double* columns, int64_t d, double* bounds) {
  Side most = Side{} - 1.0;
  with_width(d, [&](auto width) {
    for (int at = 0; at < kLeaf; at += kSide) {
      const Side value = leaf_side<decltype(width)::value>(x, columns, at);
      const Side bound = lesser(value, side(bounds + at));
      std::memcpy(bounds + at, &bound, sizeof bound);
      most = greater(bound, most);
    }
  });
  const Side largest = Side{} + largest_of(most);
  uint32_t mask = 0;
  for (int at = 0; at < kLeaf; at += kSide) mask |= not_less(side(bounds + at), largest) << at;
  return __builtin_ctz(mask);
}

// Distances of x to boxes from place `at`, by the operations of tree/tree.h's box_distance.
template <int D>
inline Side box_side(const double* x, const Leaves& leaves, int64_t at) {
  Side q[D];
  for (int l = 0; l < D; ++l) {
    const Side below = side(leaves.boxes + l * leaves.stride + at) - x[l];
    const Side above = x[l] - side(leaves.boxes + (D + l) * leaves.stride + at);
    const Side gap = greater(greater(below, above), Side{});
    q[l] = gap * gap;
  }
  return add_squares<D>(q);
}

int64_t nearer_leaves(const double* x, const Leaves& leaves, int64_t d, int32_t* out) {
  int64_t count = 0;
  with_width(d, [&](auto width) {
    for (int64_t at = 0; at < leaves.stride; at += kSide) {
      const Side value = box_side<decltype(width)::value>(x, leaves, at);
      for (uint32_t mask = less(value, side(leaves.best + at)); mask; mask &= mask - 1)
        out[count++] = int32_t(at) + __builtin_ctz(mask);
    }
  });
  return count;
}

int64_t best_leaf(const double* best, const int64_t* rows, int64_t stride) {
  Side most = side(best);
  for (int64_t at = kSide; at < stride; at += kSide) most = greater(side(best + at), most);
  const Side largest = Side{} + largest_of(most);
  int64_t found = -1;
  for (int64_t at = 0; at < stride; at += kSide)
    for (uint32_t mask = not_less(side(best + at), largest); mask; mask &= mask - 1) {
      const int64_t leaf = at + __builtin_ctz(mask);
      if (found < 0 || rows[leaf] < rows[found]) found = leaf;
    }
  return found;
}
