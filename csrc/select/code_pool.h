// Codes of rows that are not in memory, and of picks. Scores alone lower the bounds of rows: to
// what the certificate allows, which is no less than the distance. A row whose bound then is low
// enough need not be read.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/buffer.h"
#include "base/rows.h"
#include "base/weights.h"
#include "filter/frame.h"
#include "filter/panels.h"
#include "select/sweep.h"

namespace entroselect {

class CodePool {
 public:
  // Room for the codes of n rows, in the frame that suits a sample of them.
  CodePool(const Rows& sample, const Kernels& kernels, int64_t n, int threads,
           std::function<void()> poll);

  int64_t coded() const { return coded_rows_; }
  int64_t pairs() const;

  // Codes the rows that come next, as many as there is room for.
  void code(const Rows& rows);

  void add_picks(const Rows& vectors);

  // Resets the pool to no picks.
  void restart();

  // Lowers bounds[i] of each of the rows i, which have been coded, by the picks that it has not
  // met: to a bound by all of them, or to any with a key below `enough`.
  void refresh(std::vector<int64_t> rows, double enough, double* bounds, const Weights& weights);

  // These rows have met all picks elsewhere.
  void meet(const std::vector<int64_t>& rows);

  // The most bytes that a row takes, and a pick; of a pick without those of its values.
  static int64_t row_bytes(const Kernels& kernels, int64_t d);
  static int64_t pick_bytes(const Kernels& kernels, int64_t d);

 private:
  const Kernels& kernels_;
  const int threads_;
  const std::function<void()> poll_;
  const Frame frame_;
  int64_t room_;
  int64_t coded_rows_ = 0;
  Buffer<uint32_t> codes_;
  Buffer<Coded> coded_;
  Buffer<Unmet> unmet_;
  std::unique_ptr<Panels> picks_;
  std::vector<Coder> coders_;                   // one per worker
  std::vector<std::unique_ptr<Sweep>> sweeps_;  // one per worker
};

}  // namespace entroselect
