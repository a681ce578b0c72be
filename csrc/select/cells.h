// Cells of picks that lie close together. Where a pool is clustered, the triangle inequality
// then shows that most rows are far from most cells.
#pragma once

#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "filter/group.h"
#include "filter/panels.h"

namespace entroselect {

// When picks are kept in cells: if a sample of rows says that it pays, always, or never.
enum class Grouping { automatic, always, never };

// A row's cell, and an upper bound of its scaled distance from the cell's centre.
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

  // Share of the cells that a row in this place, with this scaled bound, can skip if every cell is
  // as wide as its own.
  double spared(const Place& place, double reach) const;

  // Adds a pick, by its code as a column.
  void put(int32_t pick, const Place& place, const uint32_t* code, const Coded& coded);

  int64_t size() const { return int64_t(cells_.size()); }
  const Panels& panels(int64_t cell) const { return cells_[size_t(cell)].panels; }

  // The picks of a cell, in increasing order, as they are in its panels.
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
  Buffer<double> between_;  // lower bounds of the distances between centres
};

}  // namespace entroselect
