// Cells of picks that lie close together. Where a pool is clustered, the triangle inequality
// then shows that most rows are far from most cells.
#pragma once

#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "filter/group.h"
#include "filter/panels.h"

namespace entroselect {

// Whether picks are kept in cells: where a sample says that it pays, always, or never.
enum class Grouping { automatic, always, never };

// Where a row belongs: a cell, and the most it can be away from its centre (scaled).
struct Place {
  int32_t cell;
  float toward;
};

class Cells {
 public:
  // A row as the filter knows it.
  struct Row {
    const uint32_t* code;
    const Coded* coded;
  };

  // The centres are picks; `centres` holds them as rows, `panels` the same as columns.
  Cells(const Frame& frame, const Kernels& kernels, const std::vector<Row>& centres,
        const Panels& panels);

  // The cells of up to kGroup rows: of the nearest centre, as far as the filter can tell.
  void place(const Row* rows, int count, const Panels& centres, Group& scratch,
             Place* places) const;

  // Share of the cells that a row in this place with this bound (scaled) can leave out, if every
  // cell is as wide as its own.
  double spared(const Place& place, double reach) const;

  // Adds a pick, by its code as a column.
  void put(int32_t pick, const Place& place, const uint32_t* code, const Coded& coded);

  int64_t size() const { return int64_t(cells_.size()); }
  const Panels& panels(int64_t cell) const { return cells_[size_t(cell)].panels; }

  // Which picks a cell holds, in increasing order, as they lie in its panels.
  const std::vector<int32_t>& picks(int64_t cell) const { return cells_[size_t(cell)].picks; }

  // No pick in cell `to` is nearer to a row in cell `from` than this less its Place::toward.
  double gap(int64_t from, int64_t to) const {
    return between_[from * size() + to] - cells_[size_t(to)].radius;
  }

 private:
  struct Cell {
    Panels panels;
    std::vector<int32_t> picks;
    double radius;
  };

  const Certificate& certificate_;
  std::vector<Cell> cells_;
  Buffer<double> between_;  // at least the distances of the centres
};

}  // namespace entroselect
