#include "bits/bit_panels.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace entroselect {

namespace {

// Calls visit(word, place) for all words of row i, the last of which ends with zeros.
template <class Visit>
void for_words(const Rows& rows, int64_t i, const Visit& visit) {
  const char* bytes = static_cast<const char*>(rows.row(i));
  const int64_t whole = rows.d / 8;
  uint64_t word;
  for (int64_t at = 0; at < whole; ++at) {
    std::memcpy(&word, bytes + 8 * at, 8);
    visit(word, at);
  }
  if (rows.d % 8 == 0) return;
  word = 0;
  std::memcpy(&word, bytes + 8 * whole, size_t(rows.d % 8));
  visit(word, whole);
}

}  // namespace

int64_t count_bits(const Rows& rows, int64_t i) {
  int64_t count = 0;
  for_words(rows, i, [&](uint64_t v, int64_t) {
    v -= v >> 1 & 0x5555555555555555u;                               // of every two bits
    v = (v & 0x3333333333333333u) + (v >> 2 & 0x3333333333333333u);  // of every four
    v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    count += int64_t(v * 0x0101010101010101u >> 56);
  });
  return count;
}

BitRow load_bits(const Rows& rows, int64_t i, int64_t count, BitWord* words) {
  int64_t size = 0;
  for_words(rows, i, [&](uint64_t word, int64_t at) {
    words[size] = {word, at};
    size += word != 0;  // without a branch, which could not be predicted
  });
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
