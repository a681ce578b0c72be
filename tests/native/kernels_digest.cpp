// Prints what the kernels of every instruction set that runs here make of fixed rows. The bits of
// the canonical functions must be the same on every machine;
// tests/backends/test_instruction_sets.py compares them between architectures. Scores may differ in
// rounding; they are held to float64 here.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include "isa/kernels.h"

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

// Frames random rows, codes them in one form and holds the codes, their residuals and the scores
// of all pairs to float64.
bool scores_hold(const Kernels& kernels, int64_t d, bool bytes) {
  if (bytes && !kernels.score_bytes) return true;
  const int64_t words = bytes ? (d + 3) / 4 : (d + 1) / 2;
  constexpr int kRows = 29, kAll = kRows + kPanel;
  const int64_t width = (d + 15) / 16 * 16;
  std::vector<double> truth(size_t(kAll * d)), meant(size_t(kAll * d));
  std::vector<uint32_t> codes(size_t(kAll * words));
  std::vector<float> frame(static_cast<size_t>(width)), wide_rows(size_t(kRows * 2 * words));
  Coded coded[kAll];
  for (int i = 0; i < kAll; ++i) {
    for (int64_t l = 0; l < d; ++l) {
      frame[size_t(l)] = float(int64_t(random64()) >> 32) * 0x1p-31f * float(1 + i % 3);
      truth[size_t(i * d + l)] = double(frame[size_t(l)]);
    }
    const auto code = bytes ? kernels.code_bytes : kernels.code_halves;
    uint32_t* out = &codes[size_t(i * words)];
    coded[i] = code(frame.data(), d, words, i < kRows ? kernels.row_levels : 127, out);
    double residual = 0, norm2 = 0;
    for (int64_t l = 0; l < d; ++l) {
      const uint32_t word = out[bytes ? l / 4 : l / 2];
      double& value = meant[size_t(i * d + l)];
      if (bytes) {
        value = double(coded[i].step) * double(int8_t(word >> (8 * (l % 4))));
      } else {
        const uint32_t bits = l % 2 ? word & 0xffff0000u : word << 16;
        float f;
        std::memcpy(&f, &bits, 4);
        value = double(f);
      }
      residual += (truth[size_t(i * d + l)] - value) * (truth[size_t(i * d + l)] - value);
      norm2 += value * value;
    }
    if (!(std::fabs(coded[i].residual - std::sqrt(residual)) <= 1e-4 * std::sqrt(residual) + 1e-5))
      return false;
    if (!(std::fabs(coded[i].norm2 - norm2) <= 1e-12 * norm2)) return false;
  }
  const bool widens = !bytes && kernels.widens;
  std::vector<uint32_t> panel(size_t(words * kPanel));
  std::vector<float> wide_panel(size_t(2 * words * kPanel));
  float row_step[kRows], column_step[kPanel], start[kPanel], threshold[kRows];
  float scores[kRows * kPanel] = {};
  int32_t row_sum[kRows];
  uint32_t mask[kRows];
  const void* x[kRows];
  for (int c = 0; c < kPanel; ++c) {
    for (int64_t w = 0; w < words; ++w)
      panel[size_t(w * kPanel + c)] = codes[size_t((kRows + c) * words + w)] ^
                                      (bytes && kernels.panel_offset ? 0x80808080u : 0);
    column_step[c] = coded[kRows + c].step;
    start[c] = float(c) - 16;
  }
  if (widens) kernels.widen_panel(panel.data(), words, wide_panel.data());
  for (int r = 0; r < kRows; ++r) {
    row_step[r] = coded[r].step;
    row_sum[r] = coded[r].sum;
    threshold[r] = 0.5f;
    x[r] = &codes[size_t(r * words)];
    if (widens) {
      kernels.widen_row(&codes[size_t(r * words)], words, &wide_rows[size_t(r * 2 * words)]);
      x[r] = &wide_rows[size_t(r * 2 * words)];
    }
  }
  const void* packed = widens ? static_cast<const void*>(wide_panel.data()) : panel.data();
  const Tile tile = {kRows, x,     row_step,  row_sum, column_step, packed,
                     start, words, threshold, mask,    scores};
  const uint64_t any = (bytes ? kernels.score_bytes : kernels.score_halves)(tile);
  for (int r = 0; r < kRows; ++r) {
    if ((any >> r & 1) != (mask[r] != 0)) return false;
    for (int c = 0; c < kPanel; ++c) {
      double exact = start[c], size = std::fabs(start[c]);
      for (int64_t l = 0; l < d; ++l) {
        const double product = meant[size_t(r * d + l)] * meant[size_t((kRows + c) * d + l)];
        exact += product;
        size += std::fabs(product);
      }
      const double allowed = (bytes ? 8 : double(d + 5)) * 0x1p-23 * size;
      const bool passed = mask[r] >> c & 1;
      if (mask[r] && !(std::fabs(double(scores[r * kPanel + c]) - exact) <= allowed)) return false;
      if (exact > 0.5 + allowed && !passed) return false;
      if (exact < 0.5 - allowed && passed) return false;
    }
  }
  return true;
}

// A rotation keeps distances.
bool rotation_holds(const Kernels& kernels, int64_t size) {
  std::vector<float> x(static_cast<size_t>(size)), signs(x);
  double before = 0, after = 0;
  for (int64_t l = 0; l < size; ++l) {
    x[size_t(l)] = float(int64_t(random64()) >> 40);
    signs[size_t(l)] = random64() & 1 ? 1.0f : -1.0f;
    before += double(x[size_t(l)]) * double(x[size_t(l)]);
  }
  std::vector<float> unit(x.size());
  unit[size_t(size / 3)] = 1;  // spreads evenly
  kernels.rotate_window(x.data(), signs.data(), size);
  kernels.rotate_window(unit.data(), signs.data(), size);
  for (float v : x) after += double(v) * double(v);
  for (float v : unit)
    if (!(std::fabs(std::fabs(double(v)) * std::sqrt(double(size)) - 1) < 1e-5)) return false;
  return std::fabs(after - before) < 1e-5 * before;
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
  std::vector<double> zero(size_t(padded(d))), a(zero), b(zero), lengths;
  for (bool cosine : {false, true}) {
    for (int64_t i = 0; cosine && i < kRows; ++i) {
      const double length = std::sqrt(kernels.distance_to_row(zero.data(), rows, i)) + 1;
      lengths.push_back(i % 2 ? -length * kTinyScale : length);
    }
    rows.lengths = cosine ? lengths.data() : nullptr;
    for (int64_t i = 0; i < kRows; ++i) {
      kernels.load_row(rows, i, a.data());
      add(a.data(), a.size() * sizeof(double));
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

// Distances of bits, whatever instructions count them; most bits are 0, and some words all of them.
void bits(const Kernels& kernels, int64_t words) {
  std::vector<uint64_t> panel(size_t(words * kBitPanel));
  std::vector<double> counts(kBitPanel);
  for (int64_t j = 0; j + 1 < kBitPanel; ++j)
    for (int64_t w = 0; w < words; ++w) {
      const uint64_t word = j % 5 == 4 ? ~uint64_t(0) : random64() & random64() & random64();
      panel[size_t(w * kBitPanel + j)] = word;
      counts[size_t(j)] += double(__builtin_popcountll(word));
    }
  counts[kBitPanel - 1] = std::nan("");  // no row
  std::vector<BitWord> x;
  double set = 0;
  for (int64_t w = 0; w < words; ++w) {
    const uint64_t word = w % 7 == 6 ? ~uint64_t(0) : random64() & random64();
    x.push_back({word, w});
    set += double(__builtin_popcountll(word));
  }
  const BitRow row = {x.data(), words, set}, nothing = {x.data(), 0, 0};
  for (const BitRow& each : {row, nothing})
    for (bool tanimoto : {false, true}) {
      double squared[kBitPanel + 1];
      const BitPanel view = {panel.data(), counts.data()};
      const double all = std::numeric_limits<double>::infinity();
      squared[kBitPanel] = kernels.bit_distances(each, view, tanimoto, all, squared);
      add(squared, sizeof squared);
    }
}

}  // namespace

int main() {
  int count = 0;
  const InstructionSet* list = instruction_sets(&count);
  for (int i = 0; i < count; ++i) {
    if (*list[i].reason) continue;
    const Kernels& kernels = *list[i].kernels;
    state = 1;
    digest = 0xcbf29ce484222325u;
    for (Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::u8})
      for (int64_t d : {1, 2, 7, 8, 9, 31, 64, 257}) canonical(kernels, dtype, d);
    for (int64_t words : {1, 2, 30, 31, 32, 100}) bits(kernels, words);
    bool scores = true;
    for (int64_t d : {1, 2, 3, 16, 65, 384, 4099})
      scores = scores && scores_hold(kernels, d, true) && scores_hold(kernels, d, false);
    for (int64_t size : {16, 32, 512}) scores = scores && rotation_holds(kernels, size);
    std::printf("%s %016llx %s\n", list[i].name, static_cast<unsigned long long>(digest),
                scores ? "scores-hold" : "scores-wrong");
  }
}
