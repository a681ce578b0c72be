// For every row of a pool its nearest members, as members come and go.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

namespace entroselect {

class NearLists {
 public:
  static constexpr int kLength = 8;
  static constexpr int64_t kBytesPerRow = kLength * 12 + 8 + 4;

  explicit NearLists(int64_t n)
      : squared_(size_t(n * kLength)),
        row_(size_t(n * kLength)),
        limit_(size_t(n), kAll),
        size_(size_t(n), 0) {}

  int size(int64_t i) const { return size_[size_t(i)]; }
  // The place-th nearest member; -1 and infinity if the list ends before it.
  int32_t row(int64_t i, int place) const { return place < size(i) ? row_[at(i) + place] : -1; }
  double squared(int64_t i, int place) const {
    return place < size(i) ? squared_[at(i) + place] : kAll;
  }
  // Whether members may be missing from the list; they are at least as far as those in it.
  bool cut(int64_t i) const { return limit_[size_t(i)] < kAll; }

  void add(int64_t i, int32_t member, double squared) {
    if (!(squared < limit_[size_t(i)])) return;
    double* distances = &squared_[at(i)];
    int32_t* rows = &row_[at(i)];
    int place = size(i);
    if (place == kLength) {
      limit_[size_t(i)] = squared < distances[place - 1] ? distances[place - 1] : squared;
      if (!(squared < distances[--place])) return;
    }
    size_[size_t(i)] = place + 1;
    for (; place > 0 && distances[place - 1] > squared; --place) {
      distances[place] = distances[place - 1];
      rows[place] = rows[place - 1];
    }
    distances[place] = squared;
    rows[place] = member;
  }

  void remove(int64_t i, int32_t member, double squared) {
    double* distances = &squared_[at(i)];
    int32_t* rows = &row_[at(i)];
    const int count = size(i);
    if (count == 0 || squared > distances[count - 1]) return;
    int place = 0;
    while (place < count && rows[place] != member) ++place;
    if (place == count) return;
    for (; place + 1 < count; ++place) {
      distances[place] = distances[place + 1];
      rows[place] = rows[place + 1];
    }
    size_[size_t(i)] = count - 1;
  }

  void clear(int64_t i) {
    size_[size_t(i)] = 0;
    limit_[size_t(i)] = kAll;
  }

 private:
  static constexpr double kAll = std::numeric_limits<double>::infinity();
  size_t at(int64_t i) const { return size_t(i * kLength); }

  // A member that is not listed is at limit_ or farther; one that is listed is not farther.
  std::vector<double> squared_;
  std::vector<int32_t> row_;
  std::vector<double> limit_;
  std::vector<int32_t> size_;
};

}  // namespace entroselect
