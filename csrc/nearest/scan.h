// Neighbours: a group of rows against a range of points. Score tiles give suspects, the certificate
// drops those that cannot matter, and the rest is rechecked in canonical float64, best first.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/neighbour.h"
#include "filter/group.h"
#include "filter/recheck.h"

namespace entroselect {

// Pairs of bytes that cost about as much as one recheck: where rechecks in vain are more frequent,
// bytes cannot tell the rows apart.
constexpr int64_t kDear = 64;

// All points as panels.
Panels pack_all(const Rows& points, const Frame& frame, const Kernels& kernels, int threads,
                const std::function<void()>& poll);

class Scan {
 public:
  // Searches the k nearest of up to `rows` rows at a time.
  Scan(const Frame& frame, const Kernels& kernels, int64_t k, int rows);

  // Takes row `g` of the group: its code (kept by the caller until run() returns) and the k
  // nearest known so far, sorted. `self`: the point that it is, which does not count (-1: none).
  void set_row(int g, const Rows& rows, int64_t i, const uint32_t* code, const Coded& coded,
               const Neighbour* best, int64_t self);

  // Scans points [first, last) for rows 0 <= g < count.
  void run(int count, const Panels& panels, int64_t first, int64_t last,
           const ExactDistance& exact);

  // The k nearest of row g, sorted by (squared, index).
  const Neighbour* best(int g) const { return best_.data() + g * k_; }

  int64_t rechecks = 0;
  int64_t pairs = 0;

  // The most bytes that a row takes: its suspects, in a list that may be half empty, and its k
  // nearest so far.
  static int64_t bytes_per_row(int64_t k);

 private:
  struct Row {
    const Rows* rows;
    int64_t index;
    int64_t self;
    double reach;
    std::vector<Suspect> suspects;
    std::vector<double> uppers;  // max-heap of the k smallest upper bounds of this run
  };

  void collect(int g, uint32_t mask, const ColumnBounds* columns, int64_t base);
  void recheck(int g, const ExactDistance& exact);
  void insert(Neighbour* best, const Neighbour& found) const;
  void merge(Neighbour* best);

  const Frame& frame_;
  const Kernels& kernels_;
  int64_t k_;
  std::vector<Row> rows_;
  std::vector<Neighbour> best_;
  std::vector<Neighbour> found_;
  Group group_;
  Buffer<double> canonical_;
};

}  // namespace entroselect
