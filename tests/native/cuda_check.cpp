// The CUDA sources compiled for the host, held to the CPU's kernels and to plain loops; built with
// sanitizers and run by tests/backends/test_cuda_host.py. Prints a line for each check that holds.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "cuda/kernels.h"
#include "isa/lengths.h"

namespace cuda = entroselect::cuda;
using entroselect::kernels_portable;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

uint64_t state = 1;
uint64_t random64() {  // splitmix64
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void require(bool holds, const char* what, int64_t a = 0, int64_t b = 0) {
  if (holds) return;
  std::printf("wrong: %s (%lld, %lld)\n", what, static_cast<long long>(a),
              static_cast<long long>(b));
  std::exit(1);
}

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

// The CPU backend's canonical distances, bit by bit.
void canonical() {
  constexpr int64_t kRows = 5;
  for (int dtype = 0; dtype < 5; ++dtype)
    for (int64_t d : {1, 2, 7, 8, 9, 31, 64, 257}) {
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
      lengths[1] *= -entroselect::kTinyScale;
      const int64_t index[] = {0, 1, 2, 3, 4};
      for (bool cosine : {false, true}) {
        rows.lengths = ours.lengths = cosine ? lengths : nullptr;
        cuda::widen_rows(ours, index, kRows, wide.data(), {});
        const cuda::Rows given = {reinterpret_cast<const char*>(wide.data()), 8 * d, d,
                                  cuda::Dtype::f64, nullptr};
        for (int64_t i = 0; i < kRows; ++i) {
          kernels_portable.load_row(rows, i, x.data());
          require(!std::memcmp(x.data(), &wide[size_t(i * d)], size_t(8 * d)), "widen", dtype, d);
          for (int64_t j = 0; j < kRows; ++j) {
            const double expected = kernels_portable.distance_to_row(x.data(), rows, j);
            require(cuda::distance(ours, i, ours, j) == expected, "distance", dtype, d);
            require(cuda::distance(ours, j, given, i) == expected, "distance to float64", dtype, d);
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

// A pool of float32 rows with few distinct values, so that nearly everything ties.
struct Grid {
  Grid(int64_t n, int64_t d, int levels) : n(n), d(d), values(size_t(n * d)) {
    for (float& v : values) v = float(random64() % uint64_t(levels));
    bounds.assign(size_t(n), kInfinity);
    met.assign(size_t(n), 0);
    picks.assign(size_t(n), -9);
  }
  cuda::Rows rows() const {
    return {reinterpret_cast<const char*>(values.data()), 4 * d, d, cuda::Dtype::f32, nullptr};
  }
  cuda::Selection selection() { return {rows(), {}, picks.data(), bounds.data(), met.data()}; }
  double distance(int64_t i, int64_t j) const { return cuda::distance(rows(), i, rows(), j); }
  void note(int64_t row, int64_t count) {
    picks[size_t(count)] = row;
    bounds[size_t(row)] = cuda::kPicked;
  }
  // Plain: lowers every row that is not picked at once.
  void pick(int64_t row, int64_t count) {
    note(row, count);
    for (int64_t i = 0; i < n; ++i)
      if (bounds[size_t(i)] >= 0) bounds[size_t(i)] = std::min(bounds[size_t(i)], distance(i, row));
  }

  int64_t n, d;
  std::vector<float> values;
  std::vector<double> bounds;
  std::vector<int32_t> met;
  std::vector<int64_t> picks;
};

struct Buffers {
  explicit Buffers(int64_t rows, int64_t limit)
      : micro(cuda::kMicro),
        between(cuda::kMicro * cuda::kMicro),
        keys(size_t(rows)),
        squared(size_t(limit)) {}
  cuda::Scratch scratch() {
    return {&state, micro.data(), between.data(), keys.data(), squared.data()};
  }
  cuda::State state;
  std::vector<int64_t> micro;
  std::vector<double> between;
  std::vector<uint64_t> keys;
  std::vector<double> squared;
};

// Stale bounds: exact for the first pick alone, as a lazy engine may leave them.
void begin(Grid& grid, Grid& plain, int64_t first) {
  grid.pick(first, 0);
  for (int32_t& s : grid.met) s = 1;
  plain.pick(first, 0);
}

void farthest() {
  for (int trial = 0; trial < 60; ++trial) {
    const int64_t n = 1 + int64_t(random64() % (trial < 40 ? 300 : 2500));
    Grid grid(n, 1 + int64_t(random64() % 5), 2 + int(random64() % 9));
    Grid plain = grid;
    begin(grid, plain, int64_t(random64() % uint64_t(n)));
    std::vector<int64_t> rows;  // the block: some of the rows; the best other is the rival
    cuda::Key rival = {cuda::kPicked, -1};
    for (int64_t i = 0; i < n; ++i) {
      const cuda::Key key = {grid.bounds[size_t(i)], i};
      if (key.bound < 0) continue;
      if (key.bound >= 1 && random64() % 8)
        rows.push_back(i);
      else if (key.beats(rival))
        rival = key;
    }
    if (trial % 3 == 0) rival = {cuda::kPicked, -1};
    const int64_t limit = int64_t(random64() % uint64_t(n));
    const double floor = double(random64() % 3);
    Buffers buffers(int64_t(rows.size()), limit);
    const cuda::Settled settled =
        cuda::farthest_first(grid.selection(), buffers.scratch(), rows.data(), int64_t(rows.size()),
                             1, rival, limit, floor, {});
    double next = -1;
    int64_t picked = 0;
    for (;; ++picked) {
      cuda::Key best = rival;
      for (int64_t i : rows) {
        const cuda::Key key = {plain.bounds[size_t(i)], i};
        if (key.bound >= 0 && key.beats(best)) best = key;
      }
      if (best.row == rival.row) break;
      if (picked == limit || best.bound < floor) {
        next = best.bound;
        break;
      }
      require(picked < settled.picked, "too few picks", trial, picked);
      require(grid.picks[size_t(1 + picked)] == best.row, "pick", trial, picked);
      require(buffers.squared[size_t(picked)] == best.bound, "its bound", trial, picked);
      plain.pick(best.row, 1 + picked);
    }
    require(settled.picked == picked, "number of picks", settled.picked, picked);
    require(settled.next == next, "next", trial);
    cuda::catch_up(grid.selection(), &buffers.state, rows.data(), int64_t(rows.size()), 1 + picked,
                   {});
    for (int64_t i : rows)
      require(grid.bounds[size_t(i)] == plain.bounds[size_t(i)], "bound", trial, i);
  }
  std::puts("farthest");
}

void in_order() {
  for (int trial = 0; trial < 60; ++trial) {
    const int64_t n = 1 + int64_t(random64() % (trial < 40 ? 300 : 2500));
    Grid grid(n, 1 + int64_t(random64() % 5), 2 + int(random64() % 9));
    Grid plain = grid;
    begin(grid, plain, int64_t(random64() % uint64_t(n)));
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < n; ++i)
      if (grid.bounds[size_t(i)] >= 0) rows.push_back(i);
    for (size_t i = rows.size(); i > 1; --i) std::swap(rows[i - 1], rows[random64() % i]);
    const int64_t limit = int64_t(random64() % uint64_t(n));
    const double floor = double(random64() % 6);
    Buffers buffers(1, limit);
    const int64_t picked = cuda::in_order(grid.selection(), buffers.scratch(), rows.data(),
                                          int64_t(rows.size()), 1, limit, floor, {});
    int64_t expected = 0;
    for (int64_t i : rows) {
      const double bound = plain.bounds[size_t(i)];
      if (expected == limit || bound < floor) continue;
      require(expected < picked, "too few accepted", trial, expected);
      require(grid.picks[size_t(1 + expected)] == i, "accepted", trial, expected);
      require(buffers.squared[size_t(expected)] == bound, "its bound", trial, expected);
      plain.pick(i, 1 + expected++);
    }
    require(picked == expected, "number accepted", picked, expected);
  }
  std::puts("in-order");
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

}  // namespace

int main() {
  canonical();
  lengths();
  halves();
  coding();
  for (bool order : {false, true}) {
    cuda::backwards = order;
    farthest();
    in_order();
  }
}
