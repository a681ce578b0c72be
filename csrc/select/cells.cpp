#include "select/cells.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace entroselect {

namespace {
// Covers the roundings of gap() and of comparing it.
constexpr double kDown = 1 - 0x1p-48, kUp = 1 + 0x1p-48;
}  // namespace

Cells::Cells(const Frame& frame, const Kernels& kernels, const std::vector<Row>& centres,
             const Panels& panels)
    : certificate_(frame.certificate), between_(int64_t(centres.size() * centres.size())) {
  const int offset = frame.form == Form::bytes ? kernels.panel_offset : 0;
  for (size_t c = 0; c < centres.size(); ++c) cells_.push_back({{frame.words, offset}, {}, 0});
  Group group(frame, kernels);
  for (int64_t a = 0; a < size(); ++a) {
    group.set_row(0, centres[size_t(a)].code, *centres[size_t(a)].coded);
    group.threshold[0] = -std::numeric_limits<float>::infinity();
    for (int64_t b = 0; b < size(); ++b) {
      const Panels::Panel& panel = panels.panel(b / kPanel);
      if (b % kPanel == 0) group.score(1, panel);
      const double lower =
          certificate_.interval(group.bounds[0], panel.bounds[b % kPanel], group.scores[b % kPanel])
              .lower;
      between_[a * size() + b] = std::max(0.0, lower * kDown);
    }
  }
}

void Cells::place(const Row* rows, int count, const Panels& centres, Group& scratch,
                  Place* places) const {
  // The largest score is the nearest centre's, but for rounding.
  for (int g = 0; g < count; ++g) {
    scratch.set_row(g, rows[g].code, *rows[g].coded);
    scratch.threshold[g] = -std::numeric_limits<float>::infinity();
    places[g].cell = 0;
  }
  for (int64_t base = 0; base < size(); base += kPanel) {
    for (uint64_t any = scratch.score(count, centres.panel(base / kPanel)); any; any &= any - 1) {
      const int g = __builtin_ctzll(any);
      for (uint32_t mask = scratch.mask[g]; mask; mask &= mask - 1) {
        const int column = __builtin_ctz(mask);
        const float score = scratch.scores[g * kPanel + column];
        if (base + column >= size() || !(score > scratch.threshold[g])) continue;
        scratch.threshold[g] = score;
        places[g].cell = int32_t(base + column);
      }
    }
  }
  for (int g = 0; g < count; ++g) {
    const int64_t cell = places[g].cell;
    const ColumnBounds& column = centres.panel(cell / kPanel).bounds[cell % kPanel];
    const double upper =
        certificate_.interval(scratch.bounds[g], column, scratch.threshold[g]).upper;
    places[g].toward = std::nextafter(float(upper), std::numeric_limits<float>::infinity());
  }
}

double Cells::spared(const Place& place, double reach) const {
  const double* between = &between_[place.cell * size()];
  return double(std::count_if(between, between + size(),
                              [&](double b) { return b - 2.0 * place.toward > reach; })) /
         double(size());
}

void Cells::put(int32_t pick, const Place& place, const uint32_t* code, const Coded& coded) {
  Cell& cell = cells_[size_t(place.cell)];
  const int64_t at = cell.panels.rows();
  cell.panels.resize(at + 1);
  cell.panels.put(at, code, coded);
  cell.picks.push_back(pick);
  cell.radius = std::max(cell.radius, place.toward * kUp);
}

}  // namespace entroselect
