// What surrounds the filter pass, compiled for the host and compared with plain loops.
#pragma once

#include "cuda_settling.h"

// What the filter reads of tiles of rows, for every form of a pass.
inline void check_rows(int trial, const cuda::Coded& columns, int64_t begin, int64_t end,
                       cuda::Tiles tiles) {
  const int64_t pool = 300, n = 1 + int64_t(random64() % 700), each = 32 << (trial % 4), shift = 3;
  const size_t parts = size_t((n + each - 1) / each);
  std::vector<double> squared(size_t(2 * pool));
  std::vector<int32_t> met(static_cast<size_t>(pool)), left(static_cast<size_t>(n));
  std::vector<int64_t> row(left.size()), skip(left.size(), -1), count = {4, 5, 6};
  for (double& x : squared) x = double(random64() % 1000) / 7;
  squared[0] = kInfinity;
  for (int32_t& m : met) m = int32_t(random64() % 600);
  for (size_t i = 0; i < row.size(); ++i) {
    row[i] = int64_t(random64() % uint64_t(pool));
    left[i] = i < size_t(each) || random64() % 2 ? int32_t(random64() % 3) : 0;
  }
  const bool by_met = trial & 1, leaving = trial & 2;
  if (leaving) std::fill(left.begin(), left.begin() + std::min(each, n), 9);  // a tile of none
  std::vector<float> reach(left.size(), -1);
  std::vector<int32_t> first(parts, -1), scanned(parts, -1);
  const cuda::PassRows rows = {row.data(),
                               n,
                               each,
                               squared.data(),
                               2,
                               by_met ? met.data() : nullptr,
                               leaving ? left.data() : nullptr,
                               reach.data(),
                               trial & 4 ? skip.data() : nullptr,
                               shift,
                               first.data(),
                               scanned.data(),
                               count.data()};
  const int64_t listed[] = {8, 9, trial & 8};
  const cuda::Room before = {trial & 16 ? listed : nullptr, 8, trial & 32 ? 8 : 9};
  cuda::begin_pass(columns, begin, end, tiles, rows, {1.5, 0.25, 3.0}, before, {});
  std::vector<int32_t> least(parts, 0x7fffffff);
  for (size_t i = 0; i < row.size(); ++i) {
    const double root = std::sqrt(squared[size_t(2 * row[i])] * 1.5 + 0.25);
    require(reach[i] == float(3.0 * root), "reach", trial, int64_t(i));
    require(skip[i] == (trial & 4 ? row[i] - shift : -1), "skip", trial, int64_t(i));
    int32_t& of_tile = least[i / size_t(each)];
    if (!leaving || left[i] == 0)
      of_tile = std::min(of_tile, by_met ? met[size_t(row[i])] : int32_t(begin));
  }
  require(first == least, "first columns", trial);
  for (int32_t from : scanned) require(from == begin, "scanned", trial);
  const bool full = (trial & 16) && (trial & (8 | 32));
  require(count == std::vector<int64_t>{0, 0, full}, "count", trial);
}

// What the filter reads of tiles of columns, one of which has no code, and of tiles of rows.
inline void tiles() {
  constexpr int64_t kColumns = 700;
  std::vector<float> norm2(kColumns), norm(kColumns), residual(kColumns);
  for (size_t c = 0; c < kColumns; ++c) {
    norm2[c] = float(random64() % 1000);
    norm[c] = float(random64() % 1000);
    residual[c] = float(random64() % 1000);
  }
  residual[333] = float(kInfinity);
  const cuda::Coded coded = {nullptr, norm2.data(), norm.data(), residual.data()};
  for (const int64_t size : {16, 64, 256, 512}) {
    const int64_t begin = 5, end = 690, count = (end - begin + size - 1) / size;
    std::vector<float> half(size_t(count * size)), most(size_t(count), -1),
        slack(size_t(count), -1);
    const cuda::Tiles room = {half.data(), most.data(), slack.data(), size};
    for (int trial = 0; trial < 64; ++trial) check_rows(trial, coded, begin, end, room);
    for (int64_t tile = 0; tile < count; ++tile) {
      float largest = 0, slackest = 0;
      for (int64_t l = tile * size; l < (tile + 1) * size; ++l) {
        const size_t c = size_t(begin + l);
        const bool coded_here = int64_t(c) < end && c != 333;
        const float expected = coded_here ? norm2[c] / 2 : float(c == 333 ? -kInfinity : kInfinity);
        require(half[size_t(l)] == expected, "half", size, l);
        if (!coded_here) continue;
        largest = std::max(largest, norm[c]);
        slackest = std::max(slackest, residual[c]);
      }
      require(most[size_t(tile)] == largest, "largest norm", size, tile);
      require(slack[size_t(tile)] == slackest, "largest residual", size, tile);
    }
  }
  std::puts("tiles");
}

// The pairs of items whose rows' reach lets them pass, but for a column to skip, as far as there is
// room.
inline void items() {
  constexpr int64_t kRows = 50, kItems = 3000, kStart = 300;
  std::vector<float> best(kItems), zeros(1000), reach(kRows);
  std::vector<int32_t> slot(kItems), start(kItems);
  std::vector<int64_t> skip(kRows);
  for (size_t i = 0; i < kRows; ++i) {
    reach[i] = i % 8 ? -1.0f : 1.0f;  // lower bounds are 0 here
    skip[i] = int64_t(random64() % 512) - 20;
  }
  const cuda::Coded coded = {nullptr, zeros.data(), zeros.data(), zeros.data()};
  const cuda::Sides sides = {nullptr, nullptr, coded, coded, reach.data(), 0};
  for (const int64_t each : {4, 8}) {
    std::vector<uint32_t> words(size_t(kItems * each));
    std::vector<int> expected(kRows * 1000);
    int64_t pairs = 0;
    const uint32_t written = kItems - 7;
    for (size_t i = 0; i < kItems; ++i) {
      slot[i] = int32_t(random64() % kRows);
      start[i] = int32_t(random64() % kStart);
      for (int64_t bit = 0; bit < 32 * each; ++bit) {
        if (random64() % 50) continue;
        // Bits by column, in the order in which tensor cores leave columns to threads.
        const int64_t word = bit / 128 * 4 + bit % 8 / 2, place = bit % 128 / 8 * 2 + bit % 2;
        words[i * size_t(each) + size_t(word)] |= uint32_t(1) << place;
        const int64_t column = start[i] + bit;
        if (i >= written || slot[i] % 8 || column == skip[size_t(slot[i])]) continue;
        ++expected[size_t(slot[i] * 1000 + column)];
        ++pairs;
      }
    }
    for (const int64_t room : {pairs + 5, pairs / 2}) {
      std::vector<int32_t> rows(size_t(room), -1), columns(size_t(room), -1);
      std::vector<float> score(size_t(room), -1);
      uint64_t count = 0;
      cuda::expand({slot.data(), start.data(), best.data(), words.data(), &written, skip.data(),
                    kItems, each},
                   sides, {rows.data(), columns.data(), score.data(), &count, room}, {});
      require(int64_t(count) == pairs, "pairs", int64_t(count), pairs);
      std::vector<int> found(expected.size());
      for (int64_t p = 0; p < std::min(room, pairs); ++p) {
        ++found[size_t(rows[size_t(p)] * 1000 + columns[size_t(p)])];
        require(score[size_t(p)] == 0, "score", p);
      }
      for (size_t at = 0; at < found.size(); ++at)
        require(room < pairs ? found[at] <= expected[at] : found[at] == expected[at], "listed",
                int64_t(at), found[at]);
    }
  }
  std::puts("items");
}
