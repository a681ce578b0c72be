// The heart of selection: compares rows of a pool with picks, the newest first, each row only until
// its bound falls below what is enough for it. Score tiles give suspects, the certificate drops
// those that cannot matter, and the rest is rechecked in canonical float64.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "filter/group.h"
#include "filter/recheck.h"
#include "select/cells.h"
#include "select/picked_rows.h"

namespace entroselect {

// The picks that a row has not met, that is, has not been compared with: those in [first, last),
// and all from `next` on; last <= next.
struct Unmet {
  int32_t first, last, next;

  bool holds(int64_t pick) const { return pick >= next || (pick >= first && pick < last); }
  // One past the newest of them below `end`; 0 when there is none.
  int64_t newest(int64_t end) const {
    if (end > next) return end;
    return end > first && last > first ? std::min<int64_t>(end, last) : 0;
  }
  int64_t oldest() const { return last > first ? first : next; }
  int64_t count(int64_t total) const { return total - next + last - first; }

  // The unmet picks after all in [from, total) have been met. They can lie in three ranges, but
  // only two are stored: the picks in the shorter of the two gaps then count as unmet again.
  Unmet without(int64_t from, int64_t total) const;
};

class Sweep {
 public:
  // Holds up to `rows` rows of the pool at a time. Without `picked`, bounds are lowered to the
  // upper ends of intervals instead of exact distances.
  Sweep(const Frame& frame, const Kernels& kernels, const PickedRows* picked, int64_t rows);

  // Removes all rows.
  void clear() { size_ = 0; }

  // Row i of the pool: its code (kept by the caller), its bound and what is enough for it, its
  // unmet picks and, with cells, its Place::toward.
  void add(int64_t i, const uint32_t* code, const Coded& coded, double bound, double enough,
           Unmet unmet, float toward);

  // Lowers each row's bound to its exact distance to the nearest pick, or stops once the bound is
  // below what is enough. First overload: all picks in one list, oldest first. Second: the `total`
  // picks grouped in cells; every row must belong to cell `home` and have a single range of unmet
  // picks, which a row that drops out early keeps whole.
  void run(const Panels& panels);
  void run(const Cells& cells, int64_t home, int64_t total);

  int64_t size() const { return size_; }
  int64_t row(int64_t g) const { return rows_[size_t(g)].index; }
  double bound(int64_t g) const { return rows_[size_t(g)].bound; }
  Unmet unmet(int64_t g) const { return rows_[size_t(g)].unmet; }

  int64_t rechecks = 0;
  int64_t pairs = 0;
  int64_t refreshed = 0;

 private:
  struct Row {
    int64_t index;
    const uint32_t* code;
    Coded coded;
    RowBounds bounds;
    float toward;
    Unmet unmet;
    Unmet here;    // the unmet picks by their places in the current list
    bool done;     // its bound and unmet picks are final
    double bound;  // squared
    double enough;
    double reach;  // scaled: pairs farther apart cannot lower the bound
    double upper;  // scaled: the least upper bound of a pair scored here
    std::vector<Suspect> suspects;
  };

  void begin();
  void finish(int64_t total);
  void compare(const Panels& panels, const int32_t* picks);
  void scan_panels(const Panels& panels, const int32_t* picks, int64_t first, int64_t last);
  void collect(Row& row, int g, const Panels& panels, const int32_t* picks, int64_t p);
  void recheck(Row& row);

  const Frame& frame_;
  const Kernels& kernels_;
  const PickedRows* picked_;  // may be null
  int64_t size_ = 0;
  std::vector<Row> rows_;
  // Waiting: rows that are not done. Visitors: those of them to compare with the current list.
  // Members: those to compare with the current panels. Leaving: rows that are done once their
  // suspects are decided.
  std::vector<Row*> waiting_, visitors_, members_, leaving_;
  Group group_;
  Buffer<double> canonical_;
};

}  // namespace entroselect
