// The frame in which rows are coded: a centre, a power of two, perhaps a rotation. Any frame is
// correct; a good one keeps residuals small, so that few pairs need an exact recheck.
#pragma once

#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "filter/certificate.h"
#include "isa/kernels.h"

namespace entroselect {

// Codes of one byte per value are summed exactly, and twice as fast as bfloat16. Their residual is
// about 0.7 % of a row's distance from the centre; that of bfloat16 is 0.17 %.
enum class Form { bytes, halves };

// The most bytes that a row's code takes, in either form.
constexpr int64_t code_bytes(int64_t d) { return 2 * d + 2; }

// Bytes if the instruction set multiplies them and their sums cannot overflow; else bfloat16.
Form best_form(const Kernels& kernels, int64_t d);

struct Frame {
  // The centre is the median of each column over a sample, and the scale brings the typical centred
  // row to 1: a far outlier changes neither. Rows whose values differ much in size from column to
  // column are rotated, if that makes the sample's residuals smaller.
  Frame(const Rows& rows, const Kernels& kernels, Form form);

  static constexpr int64_t kSample = 128;  // rows that decide the frame, at most

  Form form;
  int64_t d;
  int64_t words;          // 32-bit words of a row's code
  bool columns_are_rows;  // Coder::column gives what Coder::row gives
  double scale;
  Certificate certificate;

 private:
  friend class Coder;
  void find_frame(const double* sample, int64_t count);
  double residuals(const Rows& rows, const Kernels& kernels, int64_t count) const;

  std::vector<double> centre_;       // zero-padded, as the next
  std::vector<float> float_centre_;  // the same values; empty where they are no floats
  std::vector<float> signs_;         // of the two windows' rotation; empty: none
  int64_t window_ = 0;
};

// Codes rows, one at a time: every thread has its own.
class Coder {
 public:
  Coder(const Frame& frame, const Kernels& kernels);

  // As a row of a group; as a row of a panel.
  Coded row(const Rows& rows, int64_t i, uint32_t* out) {
    return code(rows, i, kernels_.row_levels, out);
  }
  Coded column(const Rows& rows, int64_t i, uint32_t* out) { return code(rows, i, 127, out); }

 private:
  Coded code(const Rows& rows, int64_t i, int levels, uint32_t* out);

  const Frame& frame_;
  const Kernels& kernels_;
  Buffer<double> canonical_;
  Buffer<float> framed_;
};

}  // namespace entroselect
