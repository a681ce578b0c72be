// The heart of selection: rows of a pool against what has been chosen, the newest choices first,
// each row only until its bound falls below what is wanted. Score tiles give suspects, the
// certificate throws out those that cannot matter, what is left is decided in canonical float64.
#pragma once

#include <cstdint>
#include <vector>

#include "group.h"
#include "scan.h"

namespace entroselect {

// The choices that a row has not met: [first, last) and all from next on; last <= next.
struct Unseen {
  int32_t first, last, next;

  bool holds(int64_t choice) const {
    return choice >= next || (choice >= first && choice < last);
  }
  // One past the newest of them below `end`; 0 when there is none.
  int64_t newest(int64_t end) const {
    if (end > next) return end;
    return end > first && last > first ? std::min<int64_t>(end, last) : 0;
  }
  int64_t oldest() const { return last > first ? first : next; }
  int64_t count(int64_t choices) const { return choices - next + last - first; }

  // What is left when all choices in [from, count) have been met. Where that would be three ranges,
  // the shorter of the two seen ones between them is forgotten.
  Unseen without(int64_t from, int64_t choices) const;
};

class Sweep {
 public:
  // For up to `rows` rows of the pool at a time.
  Sweep(const Filter& filter, const Kernels& kernels, const Rows& pool, ExactDistance exact,
        int64_t rows);

  // Begins with no rows.
  void clear() { size_ = 0; }

  // Row i of the pool: its code (kept by the caller), its bound and what it has not met.
  void add(int64_t i, const uint32_t* code, const Coded& coded, double bound, Unseen unseen);

  // Lowers the bounds to the distances of the nearest choices, or to any upper bounds of them that
  // are below `enough`.
  void run(const Packed& packed, double enough);

  int64_t size() const { return size_; }
  int64_t row(int64_t g) const { return rows_[size_t(g)].index; }
  double bound(int64_t g) const { return rows_[size_t(g)].bound; }
  Unseen unseen(int64_t g) const { return rows_[size_t(g)].unseen; }

  int64_t rechecks = 0;
  int64_t pairs = 0;
  int64_t refreshed = 0;

 private:
  struct Row {
    int64_t index;
    const uint32_t* code;
    Coded coded;
    RowBounds bounds;
    Unseen unseen;
    bool done;      // its bound and what it has not met are final
    double bound;  // squared; as unseen, what it was until the row is done
    double reach;  // scaled: pairs farther apart cannot lower the bound
    double upper;  // scaled: the least upper bound of a pair met here
    std::vector<Suspect> suspects;
  };

  void scan_panels(const Packed& packed, int64_t first, int64_t last, double enough);
  void collect(Row& row, uint32_t mask, const float* scores, const Packed::Panel& panel,
               int64_t base, int64_t choices);
  void settle(Row& row);

  const Filter& filter_;
  const Kernels& kernels_;
  const Rows& pool_;
  const ExactDistance exact_;
  int64_t size_ = 0;
  std::vector<Row> rows_;
  std::vector<Row*> active_, members_, leaving_;
  Group group_;
  Buffer<double> canonical_;
};

}  // namespace entroselect
