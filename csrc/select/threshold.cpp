// Threshold filter: the next rows of a pass, and accepting them in order.

#include <algorithm>

#include "base/timer.h"
#include "select/filter_pool.h"

namespace entroselect {

std::pair<std::vector<int64_t>, int64_t> FilterPool::next_in_order(const int64_t* order,
                                                                   int64_t length, int64_t start,
                                                                   int64_t size,
                                                                   double floor) const {
  Timer timer(profile_.frontier_seconds);
  return rows_in_order(order, length, start, size, floor,
                       [&](int64_t row) { return bounds_[row]; });
}

Picks FilterPool::settle_in_order(const std::vector<int64_t>& rows, int64_t limit, double floor) {
  Picks picks;
  size_t at = 0;
  while (at < rows.size() && int64_t(picks.rows.size()) < limit) {
    // The next rows that may still be accepted, up to date.
    micro_.rows.clear();
    for (; at < rows.size() && micro_.rows.size() < kMicro; ++at)
      if (bounds_[rows[at]] >= floor && quotas_.open(rows[at])) micro_.rows.push_back(rows[at]);
    refresh(micro_.rows, floor);

    Timer timer(profile_.settle_seconds);
    micro_.active.assign(micro_.rows.size(), false);
    for (size_t j = 0; j < micro_.rows.size(); ++j)
      micro_.active[j] = bounds_[micro_.rows[j]] >= floor;
    load(micro_);
    for (size_t j = 0; j < micro_.rows.size() && int64_t(picks.rows.size()) < limit; ++j) {
      const double bound = bounds_[micro_.rows[j]];
      if (!micro_.active[j] || bound < floor || !quotas_.open(micro_.rows[j])) continue;
      quotas_.take(micro_.rows[j]);
      picks.rows.push_back(micro_.rows[j]);
      picks.squared.push_back(bound);
      pick_in(micro_, j);
    }
    keep_current(micro_);
  }
  return picks;
}

}  // namespace entroselect
