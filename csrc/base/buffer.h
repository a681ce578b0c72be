// Aligned memory that is not touched before its first use, so that the threads that fill it fault
// its pages in; std::vector would write zeros from one thread.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace entroselect {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count) {
    constexpr size_t kHuge = size_t(2) << 20;
    const size_t bytes = size_t(count > 0 ? count : 1) * sizeof(T);
    const size_t alignment = bytes >= 4 * kHuge ? kHuge : 64;
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    data_.reset(static_cast<T*>(std::aligned_alloc(alignment, rounded)));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    if (alignment == kHuge) madvise(data_.get(), rounded, MADV_HUGEPAGE);  // a hint
#endif
  }
  T* get() { return data_.get(); }
  const T* get() const { return data_.get(); }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace entroselect
