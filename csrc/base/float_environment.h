// The floating-point environment in which every answer is computed: round to nearest, subnormal
// numbers kept, no traps. A caller's thread may have another one (flush-to-zero from
// torch.set_flush_denormal or a library linked with -ffast-math, a rounding mode); so every entry
// into the core and every thread of its own holds one of these.
//
// On x86-64 this is MXCSR alone: nothing here computes on the x87 stack (no long double).
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace entroselect {

// Sets the environment; when it goes out of scope, by an exception too, the caller's is back as it
// was, status flags included. In the thread that made it; nested ones end in reverse order.
class FloatEnvironment {
 public:
#if defined(__x86_64__)
  FloatEnvironment() : control_(_mm_getcsr()) { _mm_setcsr(kDefault); }
  ~FloatEnvironment() { _mm_setcsr(control_); }
#elif defined(__aarch64__)
  FloatEnvironment() {
    asm volatile("mrs %0, fpcr" : "=r"(control_));
    asm volatile("mrs %0, fpsr" : "=r"(status_));
    asm volatile("msr fpcr, %0" : : "r"(uint64_t(0)) : "memory");
  }
  ~FloatEnvironment() {
    asm volatile("msr fpsr, %0" : : "r"(status_) : "memory");
    asm volatile("msr fpcr, %0" : : "r"(control_) : "memory");
  }
#else
#error "The floating-point environment of this processor is not known here"
#endif
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr unsigned kDefault = 0x1f80;  // all exceptions masked, everything else 0
  unsigned control_;
#else
  uint64_t control_, status_;
#endif
};

}  // namespace entroselect
