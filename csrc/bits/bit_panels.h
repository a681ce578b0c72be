// Rows of bits for the kernels: the words of one row that are not 0, and panels of kBitPanel rows
// side by side. Rows are those of numpy.packbits: eight bits to a byte, Dtype::u8.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/buffer.h"
#include "isa/kernels.h"

namespace entroselect {

// What the distance of two rows is; see Kernels::bit_distances.
enum class BitMetric { tanimoto, hamming };

// Words that hold a row of d bytes.
inline int64_t bit_words(int64_t d) { return (d + 7) / 8; }

// How many bits of row i are set.
int64_t count_bits(const Rows& rows, int64_t i);

// Row i, of which that many are set; `words` has room for bit_words(d).
BitRow load_bits(const Rows& rows, int64_t i, int64_t count, BitWord* words);

// The distance beyond which no pair lowers a squared one to `squared` or below, whatever is
// rounded.
inline double bit_reach(double squared) { return std::sqrt(squared) * (1 + 0x1p-48); }

class BitPanels {
 public:
  BitPanels(int64_t d, BitMetric metric, const Kernels& kernels)
      : words_(bit_words(d)), tanimoto_(metric == BitMetric::tanimoto), kernels_(kernels) {}

  int64_t rows() const { return rows_; }
  int64_t size() const { return int64_t(panels_.size()); }

  // Makes room for `count` rows in all, which put() fills in; 0 removes all.
  void resize(int64_t count);

  // Writes row `at`, once. Different panels may be written by different threads.
  void put(int64_t at, const BitRow& row);

  // Writes the squared distances of x to the rows of panel p, kBitPanel of them, and returns the
  // least; infinity, and writes nothing, if all are beyond `reach`.
  double distances(const BitRow& x, int64_t p, double reach, double* squared) const {
    const Panel& panel = panels_[size_t(p)];
    const BitPanel view = {panel.words.get(), panel.bits};
    return kernels_.bit_distances(x, view, tanimoto_, reach, squared);
  }

 private:
  struct Panel {
    Buffer<uint64_t> words;
    double bits[kBitPanel];
  };

  int64_t words_;
  bool tanimoto_;
  const Kernels& kernels_;
  int64_t rows_ = 0;
  std::vector<Panel> panels_;
};

}  // namespace entroselect
