// Prints what the kernels of every instruction set that runs here make of fixed rows. The bits of
// the canonical functions must be the same on every machine; tests/test_other_machines.py compares
// them between architectures. Scores may differ in rounding; they are held to float64 here.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels.h"

using namespace entroselect;

namespace {

uint64_t state = 1;
uint64_t random64() {  // splitmix64
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint64_t digest;
void add(const void* data, size_t bytes) {  // FNV-1a
  for (size_t i = 0; i < bytes; ++i)
    digest = (digest ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3u;
}

size_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64: return 8;
    case Dtype::f32: return 4;
    case Dtype::u8: return 1;
    default: return 2;
  }
}

// Finite values of any magnitude that the type holds.
void fill(std::vector<unsigned char>& bytes, Dtype dtype) {
  for (size_t at = 0; at < bytes.size(); at += size_of(dtype)) {
    uint64_t bits = random64();
    if (dtype == Dtype::f64) {
      const double value = double(int64_t(bits)) * std::ldexp(1.0, -int(bits % 200));
      std::memcpy(&bits, &value, 8);
    } else if (dtype == Dtype::f32) {
      const float value = float(int64_t(bits)) * std::ldexp(1.0f, -int(bits % 100));
      std::memcpy(&bits, &value, 4);
    } else if (dtype == Dtype::f16) {
      bits &= 0xfbff;  // no all-ones exponent
    } else if (dtype == Dtype::bf16) {
      bits = (bits & 0x80ff) | ((96 + bits % 60) << 7);
    }
    std::memcpy(&bytes[at], &bits, size_of(dtype));
  }
}

bool scores_hold(const Kernels& kernels, int64_t d) {
  const int64_t pairs = (d + 1) / 2;
  constexpr int kRows = 29;
  std::vector<uint16_t> rows(size_t(kRows * 2 * pairs)), columns(size_t(kPanel * 2 * pairs));
  for (auto* side : {&rows, &columns})
    for (auto& v : *side) v = uint16_t((random64() & 0x807f) | (124 + random64() % 5) << 7);
  std::vector<uint32_t> panel(size_t(pairs * kPanel));
  for (int c = 0; c < kPanel; ++c)
    for (int64_t p = 0; p < pairs; ++p)
      std::memcpy(&panel[size_t(p * kPanel + c)], &columns[size_t(c * 2 * pairs + 2 * p)], 4);
  std::vector<float> wide_rows(rows.size()), wide_panel(columns.size());
  const void* x[kRows];
  for (int r = 0; r < kRows; ++r) {
    kernels.widen_rows(&rows[size_t(r * 2 * pairs)], pairs, &wide_rows[size_t(r * 2 * pairs)]);
    x[r] = kernels.reads_bf16 ? static_cast<const void*>(&rows[size_t(r * 2 * pairs)])
                              : &wide_rows[size_t(r * 2 * pairs)];
  }
  kernels.widen_panel(panel.data(), pairs, wide_panel.data());
  const void* packed =
      kernels.reads_bf16 ? static_cast<const void*>(panel.data()) : wide_panel.data();
  float start[kPanel], threshold[kRows], scores[kRows * kPanel];
  uint32_t mask[kRows];
  for (int c = 0; c < kPanel; ++c) start[c] = float(c) - 16;
  for (float& t : threshold) t = 0.5f;
  std::memset(scores, 0, sizeof scores);
  kernels.score(x, kRows, packed, start, pairs, threshold, mask, scores);
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < kPanel; ++c) {
      double exact = start[c], size = std::fabs(start[c]);
      for (int64_t l = 0; l < 2 * pairs; ++l) {
        const auto value = [](uint16_t bits) {
          const uint32_t wide = uint32_t(bits) << 16;
          float f;
          std::memcpy(&f, &wide, 4);
          return double(f);
        };
        const double product =
            value(rows[size_t(r * 2 * pairs + l)]) * value(columns[size_t(c * 2 * pairs + l)]);
        exact += product;
        size += std::fabs(product);
      }
      const double allowed = double(2 * pairs + 4) * 0x1p-23 * size;
      const bool passed = mask[r] >> c & 1;
      if (mask[r] && !(std::fabs(double(scores[r * kPanel + c]) - exact) <= allowed)) return false;
      if (exact > 0.5 + allowed && !passed) return false;
      if (exact < 0.5 - allowed && passed) return false;
    }
  return true;
}

void canonical(const Kernels& kernels, Dtype dtype, int64_t d) {
  constexpr int64_t kRows = 5;
  std::vector<unsigned char> bytes(size_t(kRows * d) * size_of(dtype));
  fill(bytes, dtype);
  Rows rows;
  rows.data = reinterpret_cast<const char*>(bytes.data());
  rows.stride = d * int64_t(size_of(dtype));
  rows.n = kRows;
  rows.d = d;
  rows.dtype = dtype;
  std::vector<double> zero(size_t(padded(d))), a(zero), b(zero), centre(zero), lengths;
  for (int64_t l = 0; l < d; ++l) centre[size_t(l)] = double(l % 7) - 3;
  std::vector<uint16_t> rounded(size_t(2 * ((d + 1) / 2)));
  for (bool cosine : {false, true}) {
    for (int64_t i = 0; cosine && i < kRows; ++i)
      lengths.push_back(std::sqrt(kernels.distance_to_row(zero.data(), rows, i)) + 1);
    rows.lengths = cosine ? lengths.data() : nullptr;
    for (int64_t i = 0; i < kRows; ++i) {
      kernels.load_row(rows, i, a.data());
      add(a.data(), a.size() * sizeof(double));
      const Rounded r =
          kernels.round_row(a.data(), centre.data(), 0.125, d, (d + 1) / 2, rounded.data());
      add(&r, sizeof r);
      add(rounded.data(), rounded.size() * sizeof(uint16_t));
      for (int64_t j = 0; j < kRows; ++j) {
        const double one = kernels.distance_to_row(a.data(), rows, j);
        kernels.load_row(rows, j, b.data());
        const double other = kernels.distance(a.data(), b.data(), padded(d));
        add(&one, sizeof one);
        add(&other, sizeof other);
      }
    }
  }
}

}  // namespace

int main() {
  int count = 0;
  const Candidate* list = candidates(&count);
  for (int i = 0; i < count; ++i) {
    if (*list[i].reason) continue;
    const Kernels& kernels = *list[i].kernels;
    state = 1;
    digest = 0xcbf29ce484222325u;
    for (Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::u8})
      for (int64_t d : {1, 2, 7, 8, 9, 31, 64, 257}) canonical(kernels, dtype, d);
    bool scores = true;
    for (int64_t d : {1, 2, 3, 16, 65, 384}) scores = scores && scores_hold(kernels, d);
    std::printf("%s %016llx %s\n", list[i].name, static_cast<unsigned long long>(digest),
                scores ? "scores-hold" : "scores-wrong");
  }
}
