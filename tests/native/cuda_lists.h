// The frontier and lists of rows that are good enough, compared with plain sorts; included by
// cuda_check.cpp and cuda_threads.cpp.
#pragma once

#include "cuda_settling.h"

// Bounds that differ in any digit, in a few, in none; some rows are picked.
inline std::vector<double> random_bounds(int trial, int64_t n) {
  const double ones[] = {1, kInfinity, 0, std::ldexp(1.0, -1074), 1 + 0x1p-52};
  std::vector<double> bounds;
  for (int64_t i = 0; i < n; ++i) {
    double bound = ones[random64() % (trial % 4 == 3 ? 1 : 5)];
    if (trial % 4 == 1) bound = double(random64() >> (random64() % 64));
    if (trial % 4 == 2) bound = double(random64() % 7) * std::ldexp(1.0, -int(random64() % 60));
    bounds.push_back(random64() % 3 == 0 || trial == 7 ? cuda::kPicked : bound);
  }
  return bounds;
}

// Bounds, and how many of four picks each row has met.
struct Bounds {
  Bounds(int trial, int64_t n) : n(n), bounds(random_bounds(trial, n)), met(size_t(n)) {
    for (int32_t& m : met) m = int32_t(random64() % 5);
    selection.bounds = bounds.data();
    selection.met = met.data();
  }
  void check_order(const std::vector<int64_t>& rows, const std::vector<int32_t>& order,
                   const cuda::Stale& stale) const {
    cuda::Stale expected = {0, 4};
    for (size_t i = 0; i < rows.size(); ++i) {
      const size_t row = size_t(rows[i]);
      const bool wanted = bounds[row] > 0 && met[row] < 4;
      require(wanted ? order[i] == met[row] : order[i] > 4, "order", int64_t(i));
      expected.rows += wanted;
      if (wanted) expected.least = std::min(expected.least, met[row]);
    }
    require(stale.rows == expected.rows && stale.least == expected.least, "stale", stale.rows);
  }

  int64_t n;
  std::vector<double> bounds;
  std::vector<int32_t> met;
  cuda::Selection selection = {};
};

inline void frontier(int trials, int64_t most) {
  for (int trial = 0; trial < trials; ++trial) {
    const int64_t n = 1 + int64_t(random64() % uint64_t(trial % 8 ? 300 : most));
    Bounds pool(trial, n);
    std::vector<cuda::Key> keys;
    for (int64_t i = 0; i < n; ++i)
      if (pool.bounds[size_t(i)] >= 0) keys.push_back({pool.bounds[size_t(i)], i});
    std::sort(keys.begin(), keys.end(), [](const auto& a, const auto& b) { return a.beats(b); });
    const int64_t size = 1 + int64_t(random64() % uint64_t(n + 9));
    const size_t count = std::min<size_t>(keys.size(), size_t(size));
    std::vector<int64_t> expected, rows(size_t(std::min(size, n)));
    for (size_t i = 0; i < count; ++i) expected.push_back(keys[i].row);
    std::sort(expected.begin(), expected.end());
    std::vector<int32_t> order(rows.size(), -1);
    std::vector<double> memory(size_t(cuda::kFrontierBytes) / 8 + 1, -7.0);
    const cuda::Frontier found =
        cuda::frontier(pool.selection, n, 4, size, rows.data(), order.data(), memory.data(), {});
    rows.resize(size_t(found.count));
    require(rows == expected, "frontier", trial, n);
    const cuda::Key rival = count < keys.size() ? keys[count] : cuda::Key{cuda::kPicked, -1};
    require(found.rival.bound == rival.bound && found.rival.row == rival.row, "rival", trial, n);
    pool.check_order(rows, order, found.stale);
  }
  std::puts("frontier");
}

inline void candidates(int trials, int64_t most) {
  for (int trial = 0; trial < trials; ++trial) {
    const int64_t n = 1 + int64_t(random64() % uint64_t(trial % 8 ? 300 : most));
    const Bounds pool(trial, n);
    std::vector<int64_t> rows(static_cast<size_t>(n)), expected;
    for (int64_t i = 0; i < n; ++i) rows[size_t(i)] = i;
    for (size_t i = rows.size(); i > 1; --i) std::swap(rows[i - 1], rows[random64() % i]);
    const int64_t other = int64_t(random64() % uint64_t(n)), size = 1 + int64_t(random64() % 200);
    const cuda::Key least = {std::max(0.0, pool.bounds[size_t(other)]), other};
    int64_t stop = n;
    for (int64_t i = 0; i < n && int64_t(expected.size()) < size; ++i) {
      const int64_t row = rows[size_t(i)];
      const cuda::Key key = {pool.bounds[size_t(row)], row};
      if (key.bound < 0 || !key.beats(least)) continue;
      expected.push_back(row);
      if (int64_t(expected.size()) == size) stop = i + 1;
    }
    std::vector<int64_t> out(size_t(std::min(size, n)));
    std::vector<double> bounds(out.size()), memory(512, -7.0);
    cuda::Candidates found;
    cuda::candidates(pool.selection, rows.data(), n, least, size, out.data(), bounds.data(), &found,
                     memory.data(), {});
    require(found.count == int64_t(expected.size()) && found.stop == stop, "found", trial, n);
    for (size_t i = 0; i < expected.size(); ++i) {
      require(out[i] == expected[i], "candidate", trial, int64_t(i));
      require(bounds[i] == pool.bounds[size_t(out[i])], "its bound", trial, int64_t(i));
    }
  }
  std::puts("candidates");
}

// Values by a stable sort, and the codes of rows in that order.
inline void ranks(int trials, int64_t most) {
  constexpr int64_t kWidth = 96;
  for (int trial = 0; trial < trials; ++trial) {
    const int64_t n = 1 + int64_t(random64() % uint64_t(most)), pool = 50;
    const std::vector<double> values = random_bounds(trial, n);
    std::vector<int64_t> expected(values.size()), places(values.size()), rows(values.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      expected[i] = int64_t(i);
      rows[i] = int64_t(random64() % uint64_t(pool));
    }
    std::stable_sort(expected.begin(), expected.end(),
                     [&](int64_t i, int64_t j) { return values[size_t(i)] > values[size_t(j)]; });
    if (trial % 2) std::reverse(expected.begin(), expected.end());
    std::vector<double> sorted(values.size());
    cuda::rank(values.data(), n, trial % 2, sorted.data(), places.data(), {});
    require(places == expected, "places", trial, n);
    std::vector<uint64_t> memory(size_t(pool * kWidth / 4)), gathered(size_t(n * kWidth / 4));
    for (uint64_t& codes : memory) codes = random64();
    std::vector<float> numbers[3], taken[3];
    for (int k = 0; k < 3; ++k) {
      for (int64_t i = 0; i < pool; ++i) numbers[k].push_back(float(random64() % 1000));
      taken[k].assign(values.size(), -1);
    }
    const auto coded = [](std::vector<uint64_t>& codes, std::vector<float>* numbers) {
      return cuda::Coded{reinterpret_cast<uint16_t*>(codes.data()), numbers[0].data(),
                         numbers[1].data(), numbers[2].data()};
    };
    cuda::gather_codes(coded(memory, numbers), rows.data(), places.data(), n, kWidth,
                       coded(gathered, taken), {});
    for (size_t i = 0; i < rows.size(); ++i) {
      require(sorted[i] == values[size_t(places[i])], "sorted", trial, int64_t(i));
      const size_t row = size_t(rows[size_t(places[i])]), words = kWidth / 4;
      for (size_t w = 0; w < words; ++w)
        require(gathered[i * words + w] == memory[row * words + w], "codes", trial, int64_t(i));
      for (int k = 0; k < 3; ++k) require(taken[k][i] == numbers[k][row], "numbers", trial, k);
    }
  }
  std::puts("ranks");
}

// Rows that take part in the next pass, over columns before 2, come first.
inline void check_parting(const Bounds& pool, const std::vector<int64_t>& rows,
                          const std::vector<int32_t>& scanned, const cuda::Scanned& from,
                          double enough) {
  std::vector<int64_t> expected, out(rows.size());
  std::vector<int32_t> expected_left, left(rows.size());
  for (const bool wanted : {true, false})
    for (size_t i = 0; i < rows.size(); ++i) {
      const bool stays = scanned[i] <= 2 && pool.bounds[size_t(rows[i])] >= enough;
      if (stays != wanted) continue;
      expected.push_back(rows[i]);
      expected_left.push_back(stays ? 0 : scanned[i]);
    }
  std::vector<double> memory(512, -7.0);
  cuda::part_rows(pool.selection, rows.data(), from, int64_t(rows.size()), 2, enough, out.data(),
                  left.data(), memory.data(), {});
  require(out == expected && left == expected_left, "parting", int64_t(rows.size()));
}

inline void refresh(int trials, int64_t most) {
  for (int trial = 0; trial < trials; ++trial) {
    const int64_t n = 1 + int64_t(random64() % uint64_t(most));
    Bounds pool(trial, n);
    std::vector<int64_t> rows(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) rows[size_t(i)] = n - 1 - i;
    const int64_t each = 1 + int64_t(random64() % 70);
    std::vector<int32_t> order(rows.size(), -1), scanned(rows.size()), before = pool.met;
    std::vector<int32_t> tile(size_t((n + each - 1) / each)), left(scanned);
    cuda::Stale memory;
    const cuda::Stale stale =
        cuda::find_stale(pool.selection, rows.data(), n, 4, 0, order.data(), &memory, {});
    pool.check_order(rows, order, stale);
    for (int32_t& from : tile) from = int32_t(random64() % 5);
    for (size_t i = 0; i < rows.size(); ++i) {
      left[i] = random64() % 3 ? 0 : 4;
      scanned[i] = trial % 2 && left[i] ? 4 : tile[i / size_t(each)];
    }
    const cuda::Scanned from = {tile.data(), each, trial % 2 ? left.data() : nullptr};
    check_parting(pool, rows, scanned, from, random64() % 2 ? 1 : 0);
    int64_t tally[2] = {7, 9}, pairs = 7, done = 9;
    if (trial % 3) {  // one of the numbers says that there was no room
      const int64_t listed[] = {3, 3, trial % 3 == 2};
      const cuda::Room room = {listed, 3, trial % 3 == 2 ? 3 : 2};
      cuda::note_met(pool.selection, rows.data(), from, room, n, 4, tally, {});
      require(pool.met == before && tally[0] == 7, "without room", trial);
    }
    cuda::note_met(pool.selection, rows.data(), from, {}, n, 4, tally, {});
    for (size_t i = 0; i < rows.size(); ++i) {
      const int32_t met = before[size_t(rows[i])];
      pairs += 4 - std::max(met, scanned[i]);
      done += scanned[i] <= met;
      require(pool.met[size_t(rows[i])] == (scanned[i] <= met ? 4 : met), "met", trial);
    }
    require(tally[0] == pairs && tally[1] == done, "tally", tally[0], pairs);
  }
  std::puts("refresh");
}
