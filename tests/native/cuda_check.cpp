// The CUDA sources compiled for the host, held to the CPU's kernels and to plain loops; built with
// sanitizers and run by tests/backends/test_cuda_host.py. Prints a line for each check that holds.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "cuda_lists.h"
#include "cuda_tiles.h"
#include "isa/lengths.h"

using entroselect::kernels_portable;

namespace {

int64_t size_of(int dtype) {
  const int64_t sizes[] = {8, 4, 2, 2, 1};
  return sizes[dtype];
}

// Finite values of any magnitude.
std::vector<unsigned char> random_rows(int dtype, int64_t values) {
  std::vector<unsigned char> bytes(static_cast<size_t>(values * size_of(dtype)));
  for (int64_t i = 0; i < values; ++i) {
    uint64_t bits = random64();
    if (dtype == 0) {
      const double value = double(int64_t(bits)) * std::ldexp(1.0, -int(bits % 200));
      std::memcpy(&bits, &value, 8);
    } else if (dtype == 1) {
      const float value = float(int64_t(bits)) * std::ldexp(1.0f, -int(bits % 100));
      std::memcpy(&bits, &value, 4);
    } else if (dtype == 2) {
      bits &= 0xfbff;
    } else if (dtype == 3) {
      bits = (bits & 0x80ff) | ((96 + bits % 60) << 7);
    }
    std::memcpy(&bytes[size_t(i * size_of(dtype))], &bits, size_t(size_of(dtype)));
  }
  return bytes;
}

// The CPU backend's canonical distances and lengths, and plain means, bit by bit.
void canonical() {
  constexpr int64_t kRows = 5;
  for (int dtype = 0; dtype < 5; ++dtype)
    for (int64_t d : {1, 2, 7, 8, 9, 31, 64, 127, 128, 129, 257}) {
      const auto bytes = random_rows(dtype, kRows * d);
      entroselect::Rows rows;
      rows.data = reinterpret_cast<const char*>(bytes.data());
      rows.stride = d * size_of(dtype);
      rows.n = kRows;
      rows.d = d;
      rows.dtype = entroselect::Dtype(dtype);
      cuda::Rows ours = {rows.data, rows.stride, d, cuda::Dtype(dtype), nullptr};
      std::vector<double> x(static_cast<size_t>(entroselect::padded(d))), wide(size_t(kRows * d));
      double lengths[kRows], theirs[kRows];
      for (int64_t i = 0; i < kRows; ++i) {
        lengths[i] = std::sqrt(kernels_portable.distance_to_row(x.data(), rows, i)) + 1;
        theirs[i] = lengths[i] * lengths[i];
      }
      cuda::roots(theirs, kRows, {});
      for (int64_t i = 0; i < kRows; ++i)
        require(std::fabs(theirs[i] - lengths[i]) <= lengths[i] * 0x1p-52, "root", dtype, d);
      cuda::lengths(ours, kRows, theirs, {});
      for (int64_t i = 0; i < kRows; ++i)
        require(theirs[i] == length_of(rows, i, kernels_portable, x.data()), "length", dtype, d);
      lengths[1] *= -entroselect::kTinyScale;
      const int64_t index[] = {0, 1, 2, 3, 4};
      for (bool cosine : {false, true}) {
        rows.lengths = ours.lengths = cosine ? lengths : nullptr;
        cuda::widen_rows(ours, index, kRows, wide.data(), {});
        const cuda::Rows given = {reinterpret_cast<const char*>(wide.data()), 8 * d, d,
                                  cuda::Dtype::f64, nullptr};
        std::vector<double> mean(static_cast<size_t>(d));
        cuda::mean_row(ours, kRows, mean.data(), {});
        for (int64_t l = 0; l < d; ++l) {
          double sum = 0;
          for (int64_t i = 0; i < kRows; ++i) sum += wide[size_t(i * d + l)];
          require(mean[size_t(l)] == sum / double(kRows), "mean", dtype, d);
        }
        for (int64_t i = 0; i < kRows; ++i) {
          cuda::distances_to(ours, kRows, {given.data + 8 * d * i, 0, d, cuda::Dtype::f64, nullptr},
                             theirs, {});
          kernels_portable.load_row(rows, i, x.data());
          require(!std::memcmp(x.data(), &wide[size_t(i * d)], size_t(8 * d)), "widen", dtype, d);
          for (int64_t j = 0; j < kRows; ++j) {
            const double expected = kernels_portable.distance_to_row(x.data(), rows, j);
            require(distance(ours, i, ours, j) == expected, "distance", dtype, d);
            require(distance(ours, j, given, i) == expected, "distance to float64", dtype, d);
            require(theirs[j] == expected, "distances to a vector", dtype, d);
          }
        }
      }
    }
  std::puts("canonical");
}

// The CPU backend's lengths, bit by bit, down to rows whose squares underflow.
void lengths() {
  constexpr int64_t kRows = 1060, d = 11;
  std::vector<double> values(kRows * d), zero(size_t(entroselect::padded(d))), found(kRows);
  for (int64_t i = 0; i < kRows * d; ++i)
    values[size_t(i)] = std::ldexp(double(int64_t(random64())), -63 - int(i / d));  // near 2^-row
  entroselect::Rows rows;
  rows.data = reinterpret_cast<const char*>(values.data());
  rows.stride = 8 * d;
  rows.n = kRows;
  rows.d = d;
  rows.dtype = entroselect::Dtype::f64;
  cuda::lengths({rows.data, rows.stride, d, cuda::Dtype::f64, nullptr}, kRows, found.data(), {});
  for (int64_t i = 0; i < kRows; ++i) {
    const double expected = length_of(rows, i, kernels_portable, zero.data());
    require(found[size_t(i)] == expected, "length", i);
    require(i < 470 ? expected > 0 : i < 490 || expected < 0, "tiny", i);
  }
  std::puts("lengths");
}

// Every half is read exactly, and floats go to the nearest.
void halves() {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const double exponent = std::ldexp(1.0, int(std::max(bits >> 10, 1u)) - 25);
    const double value = (double(bits & 0x3ff) + (bits >> 10 ? 1024 : 0)) * exponent;
    require(double(cuda::half_to_float(uint16_t(bits))) == value, "half", bits);
    require(double(cuda::half_to_float(uint16_t(bits | 0x8000))) == -value, "-half", bits);
    require(cuda::float_to_half(float(value)) == bits, "to half", bits);
    require(cuda::float_to_half(float(-value)) == (bits | 0x8000), "to -half", bits);
    if (bits + 1 == 0x7c00) continue;
    const double step = exponent, middle = value + step / 2;
    const uint32_t even = bits & 1 ? bits + 1 : bits;
    require(cuda::float_to_half(float(middle)) == even, "tie", bits);
    require(cuda::float_to_half(std::nextafterf(float(middle), 1e9f)) == bits + 1, "up", bits);
    require(cuda::float_to_half(std::nextafterf(float(middle), -1e9f)) == bits, "down", bits);
  }
  std::puts("halves");
}

// Residuals and norms are bounds, codes are the nearest halves, what does not fit is left to C.
void coding() {
  constexpr int64_t kRows = 40, d = 45, width = 64;
  std::vector<double> values(size_t(kRows * d)), centre(static_cast<size_t>(d), 0.25);
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t l = 0; l < d; ++l)
      values[size_t(i * d + l)] = double(int64_t(random64())) * std::ldexp(1.0, -63 - int(i));
  values[7 * d + 3] = 1e6;
  std::vector<uint16_t> codes(size_t(kRows * width), 0xffff);
  std::vector<float> norm2(kRows), norm(kRows), residual(kRows);
  const cuda::Rows rows = {reinterpret_cast<const char*>(values.data()), 8 * d, d, cuda::Dtype::f64,
                           nullptr};
  cuda::code(rows, nullptr, 0, kRows, centre.data(), 4.0, width,
             {codes.data(), norm2.data(), norm.data(), residual.data()}, {});
  for (int64_t i = 0; i < kRows; ++i) {
    long double error = 0, size = 0;
    for (int64_t l = 0; l < width; ++l) {
      const double x = l < d ? 4 * (values[size_t(i * d + l)] - 0.25) : 0.0;
      const double kept = double(cuda::half_to_float(codes[size_t(i * width + l)]));
      error += (static_cast<long double>(x) - kept) * (static_cast<long double>(x) - kept);
      size += static_cast<long double>(kept) * kept;
      require(i == 7 ? kept == 0 : std::fabs(x - kept) <= std::fabs(x) * 0x1p-11 + 0x1p-25, "code",
              i, l);
    }
    require(i == 7 ? std::isinf(residual[7]) : residual[size_t(i)] >= std::sqrt(error), "residual",
            i);
    require(i == 7 || residual[size_t(i)] <= std::sqrt(error) * 1.001L + 1e-12L, "narrow", i);
    require(norm[size_t(i)] >= std::sqrt(size), "norm", i);
    require(std::fabs(double(norm2[size_t(i)]) - double(size)) <= double(size) * 0x1p-23, "n2", i);
  }
  std::puts("coding");
}

// Pairs get their distance, as many as were listed; the others stay as they are. There are more
// than the blocks take at once.
void recheck() {
  constexpr int64_t kRows = 50, kPairs = 600000;
  Grid grid(kRows, 3, 40);
  std::vector<int32_t> slot(kPairs), column(kPairs);
  std::vector<int64_t> row(kRows);
  for (int64_t i = 0; i < kRows; ++i) {
    row[size_t(i)] = kRows - 1 - i;
    grid.picks[size_t(i)] = (7 * i + 3) % kRows;
  }
  for (size_t p = 0; p < kPairs; ++p) {
    slot[p] = int32_t(random64() % kRows);
    column[p] = int32_t(random64() % kRows);
  }
  const cuda::Sides sides = {row.data(), nullptr, {}, {}, nullptr, 0};
  for (const int64_t listed : {int64_t(1000), int64_t(3000000000)}) {
    const int32_t count = int32_t(uint32_t(listed));
    const cuda::Pairs pairs = {slot.data(), column.data(), nullptr, kPairs, &count};
    std::vector<double> squared(kPairs, -1), bounds(kRows, kInfinity);
    cuda::recheck(pairs, sides, {grid.rows(), grid.rows(), nullptr, nullptr, nullptr},
                  squared.data(), {});
    grid.bounds = bounds;
    int64_t tally = 5;
    cuda::recheck(pairs, sides, grid.selection(), nullptr, {}, &tally);
    require(tally == 5 + std::min(listed, kPairs), "pairs rechecked", tally);
    for (int64_t p = 0; p < kPairs; ++p) {
      const int64_t x = row[size_t(slot[size_t(p)])], y = column[size_t(p)];
      require(squared[size_t(p)] == (p < listed ? grid.distance(y, x) : -1), "rechecked", listed,
              p);
      if (p >= listed) continue;
      double& bound = bounds[size_t(x)];
      bound = std::min(bound, grid.distance(x, grid.picks[size_t(y)]));
    }
    require(grid.bounds == bounds, "lowered", listed);
  }
  std::puts("recheck");
}

}  // namespace

int main() {
  canonical();
  lengths();
  halves();
  coding();
  tiles();
  items();
  recheck();
  for (bool order : {false, true}) {
    cuda::backwards = order;
    frontier(120, 9000);
    candidates(60, 4000);
    refresh(30, 1500);
    ranks(20, 300);
    farthest(60, 2500);
    in_order(60, 2500);
    conflicts(60, 400);
  }
}
