// A kernel here is a plain struct whose operator() is given a block of threads and works in phases:
// block.each(f) runs f(thread) for every thread and waits for all of them. nvcc makes the block a
// CUDA block; a C++ compiler makes it a loop, so that tests run the same source without a GPU. What
// only the device has (atomics, rounding intrinsics, launches) is in this file alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define ENTROSELECT_ANY __device__
// Long code that many kernels share is called: inlined everywhere it takes nvcc minutes.
#define ENTROSELECT_CALLED __device__ __noinline__ inline
#else
#define ENTROSELECT_ANY
#define ENTROSELECT_CALLED inline
#endif

namespace entroselect::cuda {

// Where a kernel runs: a device number and a cudaStream_t, as the caller's framework names it.
struct Stream {
  int device = 0;
  void* handle = nullptr;
};

// Each operation is rounded by itself: no fused multiply-add may change a bit.
#if defined(__CUDA_ARCH__)
ENTROSELECT_ANY inline double add(double a, double b) { return __dadd_rn(a, b); }
ENTROSELECT_ANY inline double subtract(double a, double b) { return __dsub_rn(a, b); }
ENTROSELECT_ANY inline double multiply(double a, double b) { return __dmul_rn(a, b); }
ENTROSELECT_CALLED double divide(double a, double b) { return __ddiv_rn(a, b); }
ENTROSELECT_ANY inline double square_root(double a) { return __dsqrt_rn(a); }
#else  // -ffp-contract=off
ENTROSELECT_ANY inline double add(double a, double b) { return a + b; }
ENTROSELECT_ANY inline double subtract(double a, double b) { return a - b; }
ENTROSELECT_ANY inline double multiply(double a, double b) { return a * b; }
ENTROSELECT_CALLED double divide(double a, double b) { return a / b; }
ENTROSELECT_ANY inline double square_root(double a) { return sqrt(a); }
#endif

// *p <- *p + x, in any order.
ENTROSELECT_ANY inline void add_to(int* p, int x) {
#if defined(__CUDA_ARCH__)
  atomicAdd(p, x);
#else
  __atomic_fetch_add(p, x, __ATOMIC_RELAXED);
#endif
}
ENTROSELECT_ANY inline void add_to(int64_t* p, int64_t x) {
#if defined(__CUDA_ARCH__)
  atomicAdd(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(x));
#else
  __atomic_fetch_add(p, x, __ATOMIC_RELAXED);
#endif
}

// *p <- min(*p, x), in any order.
ENTROSELECT_ANY inline void lower(int* p, int x) {
#if defined(__CUDA_ARCH__)
  atomicMin(p, x);
#else
  int seen = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (x < seen &&
         !__atomic_compare_exchange_n(p, &seen, x, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
#endif
}

ENTROSELECT_ANY inline uint64_t bits_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// *p <- min(*p, x) for numbers >= 0, whose bits are ordered as they are.
ENTROSELECT_ANY inline void lower(double* p, double x) {
#if defined(__CUDA_ARCH__)
  atomicMin(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(bits_of(x)));
#else
  if (x < *p) *p = x;
#endif
}

ENTROSELECT_ANY inline void increment(int* p) {
#if defined(__CUDA_ARCH__)
  atomicAdd(p, 1);
#else
  ++*p;
#endif
}

#if defined(__CUDACC__)

template <int kThreads>
struct Block {
  static constexpr int threads = kThreads;
  __device__ int64_t index() const { return blockIdx.x; }
  __device__ int64_t count() const { return gridDim.x; }
  template <class F>
  __device__ void each(const F& f) const {
    f(int(threadIdx.x));
    __syncthreads();
  }
  // Before a phase overwrites what was read between phases.
  __device__ void sync() const { __syncthreads(); }
};

template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads) run(const Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  kernel(Block<Kernel::threads>(), shared);
}

inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

// Starts the kernel on that many blocks; does not wait.
template <class Kernel>
void launch(const Kernel& kernel, int64_t blocks, Stream stream) {
  if (blocks == 0) return;
  if (blocks > 0x7fffffff) throw std::invalid_argument("more blocks than a grid has");
  check(cudaSetDevice(stream.device));
  run<<<unsigned(blocks), Kernel::threads, 0, static_cast<cudaStream_t>(stream.handle)>>>(kernel);
  check(cudaGetLastError());
}

inline void to_device(void* device, const void* host, size_t bytes, Stream stream) {
  check(cudaSetDevice(stream.device));
  check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice,
                        static_cast<cudaStream_t>(stream.handle)));
}

// Waits for everything on the stream.
inline void to_host(void* host, const void* device, size_t bytes, Stream stream) {
  check(cudaSetDevice(stream.device));
  const auto handle = static_cast<cudaStream_t>(stream.handle);
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, handle));
  check(cudaStreamSynchronize(handle));
}

#else

// Whether the threads of a phase run last to first: a phase must not depend on their order.
inline bool backwards = false;

template <int kThreads>
struct Block {
  static constexpr int threads = kThreads;
  int64_t at, blocks;
  int64_t index() const { return at; }
  int64_t count() const { return blocks; }
  template <class F>
  void each(const F& f) const {
    for (int i = 0; i < kThreads; ++i) f(backwards ? kThreads - 1 - i : i);
  }
  void sync() const {}
};

template <class Kernel>
void launch(const Kernel& kernel, int64_t blocks, Stream) {
  for (int64_t at = 0; at < blocks; ++at) {
    typename Kernel::Shared shared;
    std::memset(static_cast<void*>(&shared), 0xa5, sizeof shared);  // as undefined as on a device
    kernel(Block<Kernel::threads>{at, blocks}, shared);
  }
}

inline void to_device(void* device, const void* host, size_t bytes, Stream) {
  std::memcpy(device, host, bytes);
}
inline void to_host(void* host, const void* device, size_t bytes, Stream) {
  std::memcpy(host, device, bytes);
}

#endif

// a[t] <- a[0] + ... + a[t]; both arrays have one place per thread.
template <class AnyBlock>
ENTROSELECT_ANY void add_up(const AnyBlock& block, int* a, int* scratch) {
  for (int step = 1; step < AnyBlock::threads; step *= 2) {
    block.each([&](int t) { scratch[t] = a[t] + (t >= step ? a[t - step] : 0); });
    block.each([&](int t) { a[t] = scratch[t]; });
  }
}

// best[0] <- the best of all, one per thread; threads must be a power of two.
template <class AnyBlock, class Key>
ENTROSELECT_ANY void find_best(const AnyBlock& block, Key* best) {
  static_assert((AnyBlock::threads & (AnyBlock::threads - 1)) == 0, "halved again and again");
  for (int half = AnyBlock::threads / 2; half; half /= 2)
    block.each([&](int t) {
      if (t < half && best[t + half].beats(best[t])) best[t] = best[t + half];
    });
}

}  // namespace entroselect::cuda
