#include "bits/bit_panels.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace entroselect {

BitRow load_bits(const Rows& rows, int64_t i, BitWord* words) {
  const char* bytes = static_cast<const char*>(rows.row(i));
  int64_t size = 0, count = 0;
  for (int64_t at = 0; at < bit_words(rows.d); ++at) {
    uint64_t bits = 0;
    std::memcpy(&bits, bytes + 8 * at, size_t(std::min<int64_t>(8, rows.d - 8 * at)));
    if (bits == 0) continue;
    words[size++] = {bits, at};
    count += __builtin_popcountll(bits);
  }
  return {words, size, double(count)};
}

void BitPanels::resize(int64_t count) {
  rows_ = count;
  const size_t wanted = size_t((count + kBitPanel - 1) / kBitPanel);
  if (wanted < panels_.size()) panels_.resize(wanted);
  while (panels_.size() < wanted) {
    Panel& panel = panels_.emplace_back();
    panel.words = Buffer<uint64_t>(words_ * kBitPanel);
    std::fill(panel.words.get(), panel.words.get() + words_ * kBitPanel, 0);
    std::fill(panel.bits, panel.bits + kBitPanel, std::numeric_limits<double>::quiet_NaN());
  }
}

void BitPanels::put(int64_t at, const BitRow& row) {
  Panel& panel = panels_[size_t(at / kBitPanel)];
  for (int64_t u = 0; u < row.size; ++u)
    panel.words[row.words[u].at * kBitPanel + at % kBitPanel] = row.words[u].bits;
  panel.bits[at % kBitPanel] = row.bits;
}

}  // namespace entroselect
