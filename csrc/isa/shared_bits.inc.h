// Rows of bits: how many two of them share, and what follows for their distance.
// A part of kernels.cpp, inside its namespace: compiled once per instruction set.

static_assert(kBitPanel % 8 == 0, "a panel is whole vectors");

// Writes how many bits x shares with each row of the panel.
#if defined(__AVX512BW__)

inline void shared_bits_by_table(const BitRow& x, const uint64_t* panel, uint64_t* shared) {
  // How many bits each half byte has.
  const __m512i ones = _mm512_set4_epi32(0x04030302, 0x03020201, 0x03020201, 0x02010100);
  const __m512i low = _mm512_set1_epi8(0x0f), zero = _mm512_setzero_si512();
  __m512i sum[kBitPanel / 8] = {};
  for (int64_t u = 0; u < x.size; ++u) {
    const __m512i word = _mm512_set1_epi64(int64_t(x.words[u].bits));
    const uint64_t* at = panel + x.words[u].at * kBitPanel;
    for (int part = 0; part < kBitPanel / 8; ++part) {
      const __m512i both = _mm512_and_si512(_mm512_loadu_si512(at + 8 * part), word);
      const __m512i upper = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
      const __m512i count = _mm512_add_epi8(_mm512_shuffle_epi8(ones, _mm512_and_si512(both, low)),
                                            _mm512_shuffle_epi8(ones, upper));
      sum[part] = _mm512_add_epi64(sum[part], _mm512_sad_epu8(count, zero));
    }
  }
  std::memcpy(shared, sum, sizeof sum);
}

#if defined(__AVX512VNNI__)
__attribute__((target("avx512vpopcntdq"))) void shared_bits_by_instruction(const BitRow& x,
                                                                           const uint64_t* panel,
                                                                           uint64_t* shared) {
  __m512i sum[kBitPanel / 8] = {};
  for (int64_t u = 0; u < x.size; ++u) {
    const __m512i word = _mm512_set1_epi64(int64_t(x.words[u].bits));
    const uint64_t* at = panel + x.words[u].at * kBitPanel;
    for (int part = 0; part < kBitPanel / 8; ++part) {
      const __m512i both = _mm512_and_si512(_mm512_loadu_si512(at + 8 * part), word);
      sum[part] = _mm512_add_epi64(sum[part], _mm512_popcnt_epi64(both));
    }
  }
  std::memcpy(shared, sum, sizeof sum);
}
#endif

inline void shared_bits(const BitRow& x, const uint64_t* panel, uint64_t* shared) {
#if defined(__AVX512VNNI__)
  // Most processors with VNNI, not all, have the instruction.
  if (__builtin_cpu_supports("avx512vpopcntdq"))
    return shared_bits_by_instruction(x, panel, shared);
#endif
  shared_bits_by_table(x, panel, shared);
}

#elif defined(__AVX2__)

inline void shared_bits(const BitRow& x, const uint64_t* panel, uint64_t* shared) {
  // How many bits each half byte has.
  const __m256i ones =
      _mm256_broadcastsi128_si256(_mm_set_epi32(0x04030302, 0x03020201, 0x03020201, 0x02010100));
  const __m256i low = _mm256_set1_epi8(0x0f), zero = _mm256_setzero_si256();
  __m256i sum[kBitPanel / 4] = {};
  for (int64_t u = 0; u < x.size;) {
    const int64_t end = x.size - u < 31 ? x.size : u + 31;  // whose counts a byte can hold
    __m256i bytes[kBitPanel / 4] = {};
    for (; u < end; ++u) {
      const __m256i word = _mm256_set1_epi64x(int64_t(x.words[u].bits));
      const uint64_t* at = panel + x.words[u].at * kBitPanel;
      for (int part = 0; part < kBitPanel / 4; ++part) {
        const __m256i both = _mm256_and_si256(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 4 * part)), word);
        const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
        bytes[part] = _mm256_add_epi8(
            bytes[part], _mm256_add_epi8(_mm256_shuffle_epi8(ones, _mm256_and_si256(both, low)),
                                         _mm256_shuffle_epi8(ones, upper)));
      }
    }
    for (int part = 0; part < kBitPanel / 4; ++part)
      sum[part] = _mm256_add_epi64(sum[part], _mm256_sad_epu8(bytes[part], zero));
  }
  std::memcpy(shared, sum, sizeof sum);
}

#else

typedef uint64_t Words2 __attribute__((vector_size(16)));

inline Words2 bits_of_words(Words2 v) {
#if defined(__ARM_NEON)
  return Words2(vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(vcntq_u8(uint8x16_t(v))))));
#else
  v -= v >> 1 & 0x5555555555555555u;                               // of every two bits
  v = (v & 0x3333333333333333u) + (v >> 2 & 0x3333333333333333u);  // of every four
  v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  v += v >> 8;
  v += v >> 16;
  return (v + (v >> 32)) & 0x7f;
#endif
}

inline void shared_bits(const BitRow& x, const uint64_t* panel, uint64_t* shared) {
  Words2 sum[kBitPanel / 2] = {};
  for (int64_t u = 0; u < x.size; ++u) {
    const uint64_t* at = panel + x.words[u].at * kBitPanel;
    for (int part = 0; part < kBitPanel / 2; ++part)
      sum[part] += bits_of_words(load_as<Words2>(at + 2 * part) & x.words[u].bits);
  }
  std::memcpy(shared, sum, sizeof sum);
}

#endif

double bit_distances(const BitRow& x, const BitPanel& panel, bool tanimoto, double reach,
                     double* squared) {
  alignas(64) uint64_t shared[kBitPanel];
  shared_bits(x, panel.words, shared);
  alignas(64) double in_one[kBitPanel], over[kBitPanel];  // numerator and denominator
  int near = 0;
  for (int j = 0; j < kBitPanel; ++j) {
    const uint64_t as_double = shared[j] | 0x4330000000000000u;  // 2^52 + shared
    double both;
    std::memcpy(&both, &as_double, sizeof both);
    both -= 0x1p52;
    const double total = x.bits + panel.bits[j];
    in_one[j] = total - 2 * both;
    over[j] = tanimoto && total - both > 0 ? total - both : 1;
    near |= in_one[j] <= reach * over[j];
  }
  double least = __builtin_inf();
  if (!near) return least;
  for (int j = 0; j < kBitPanel; ++j) {
    const double distance = in_one[j] / over[j];
    squared[j] = in_one[j] == in_one[j] ? distance * distance : __builtin_inf();
    least = squared[j] < least ? squared[j] : least;
  }
  return least;
}
