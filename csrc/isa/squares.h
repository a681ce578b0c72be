// The canonical sum of up to 8 squares, one to a lane: adding an empty lane changes nothing, so
// narrow rows need fewer additions for the same bits. Internal linkage, because isa/kernels.cpp
// includes this for several instruction sets.
#pragma once

#include <cstdint>
#include <type_traits>

namespace entroselect {

// The widest rows a tree takes.
constexpr int kTreeWidth = 8;

// ((0+4)+(2+6)) + ((1+5)+(3+7)) over the first D of q; V is a number or a vector of them.
template <int D, class V>
static inline V add_squares(const V* q) {
  static_assert(D >= 1 && D <= kTreeWidth, "one square to a lane");
  V even = q[0];
  if constexpr (D > 4) even = even + q[4];
  if constexpr (D > 2) {
    V s = q[2];
    if constexpr (D > 6) s = s + q[6];
    even = even + s;
  }
  if constexpr (D > 1) {
    V odd = q[1];
    if constexpr (D > 5) odd = odd + q[5];
    if constexpr (D > 3) {
      V s = q[3];
      if constexpr (D > 7) s = s + q[7];
      odd = odd + s;
    }
    even = even + odd;
  }
  return even;
}

// Calls f(std::integral_constant<int, d>{}) for 1 <= d <= kTreeWidth.
template <class F>
static inline void with_width(int64_t d, const F& f) {
  switch (d) {
    case 1: return f(std::integral_constant<int, 1>());
    case 2: return f(std::integral_constant<int, 2>());
    case 3: return f(std::integral_constant<int, 3>());
    case 4: return f(std::integral_constant<int, 4>());
    case 5: return f(std::integral_constant<int, 5>());
    case 6: return f(std::integral_constant<int, 6>());
    case 7: return f(std::integral_constant<int, 7>());
    default: return f(std::integral_constant<int, 8>());
  }
}

}  // namespace entroselect
