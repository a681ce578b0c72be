// A kernel here is a plain struct whose operator() is given a block of threads and works in phases:
// block.each(f) runs f(thread) for every thread and waits for all of them; each_team(block, f) runs
// f(team) for teams of threads. nvcc makes the block a CUDA block; a C++ compiler makes it a loop,
// so that tests run the same source without a GPU. What only the device has (atomics, shuffles,
// rounding intrinsics, launches) is in this file alone.
#pragma once

#include <cassert>
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
#define ENTROSELECT_UNROLL _Pragma("unroll")
#else
#define ENTROSELECT_ANY
#define ENTROSELECT_CALLED inline
#define ENTROSELECT_UNROLL
#if defined(ENTROSELECT_BLOCK)  // another kind of block, for tests
#include ENTROSELECT_BLOCK
#endif
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

// What threads of a phase, or of several blocks, may do to one number at the same time.

// *p <- min(*p, x) for numbers >= 0, whose bits are ordered as they are.
ENTROSELECT_ANY inline void lower(double* p, double x) {
#if defined(__CUDA_ARCH__)
  atomicMin(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(bits_of(x)));
#else
  double seen;
  __atomic_load(p, &seen, __ATOMIC_RELAXED);
  assert(x >= 0 && seen >= 0);  // a device would replace a negative number by a larger one
  while (x < seen &&
         !__atomic_compare_exchange(p, &seen, &x, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
#endif
}

// Returns the value before.
ENTROSELECT_ANY inline int increment(int* p) {
#if defined(__CUDA_ARCH__)
  return atomicAdd(p, 1);
#else
  return __atomic_fetch_add(p, 1, __ATOMIC_RELAXED);
#endif
}

// *p, which no thread writes while the kernel runs.
template <class T>
ENTROSELECT_ANY T fetch(const T* p) {
#if defined(__CUDA_ARCH__)
  return __ldg(p);
#else
  return *p;
#endif
}

// A place for one more: adds 1 and returns what was there before.
ENTROSELECT_ANY inline uint64_t claim(uint64_t* count) {
#if defined(__CUDA_ARCH__)
  return atomicAdd(reinterpret_cast<unsigned long long*>(count), 1ull);
#else
  return __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
#endif
}

// Where the lowest 1 of bits is, which are not 0.
ENTROSELECT_ANY inline int lowest_bit(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __ffs(int(bits)) - 1;
#else
  return __builtin_ctz(bits);
#endif
}

ENTROSELECT_ANY inline void put(int* p, int x) {
#if defined(__CUDA_ARCH__)
  *static_cast<volatile int*>(p) = x;
#else
  __atomic_store_n(p, x, __ATOMIC_RELAXED);
#endif
}

template <class T>
ENTROSELECT_ANY T peek(const T* p) {
#if defined(__CUDA_ARCH__)
  return *static_cast<const volatile T*>(p);
#else
  T seen;
  __atomic_load(p, &seen, __ATOMIC_RELAXED);
  return seen;
#endif
}

// Threads of a kernel that works as one block, on many rows.
#if defined(ENTROSELECT_BLOCK)
constexpr int kWide = 64;
#else
constexpr int kWide = 1024;
#endif

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

#if !defined(ENTROSELECT_BLOCK)

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

#endif

inline void to_device(void* device, const void* host, size_t bytes, Stream) {
  std::memcpy(device, host, bytes);
}
inline void to_host(void* host, const void* device, size_t bytes, Stream) {
  std::memcpy(host, device, bytes);
}

#endif

// kSize threads of a block that work on one thing together. On the device all of them, neighbours
// in a warp, run a team's code in step; on the host it runs once per team. So conditions must be
// the same for the whole team (`same`), and what is written is written by the thread that leads.
template <int kSize>
struct Team {
  static_assert(kSize > 0 && 32 % kSize == 0, "a warp has whole teams");
  int index = 0;  // among the teams of the block

#if defined(__CUDACC__)
  int lane = 0;

  // A variable of each thread, by its lane.
  struct PerLane {
    double value = 0;
    __device__ double& operator[](int) { return value; }
  };
  // Runs f(lane) in every thread of the team.
  template <class F>
  __device__ void each(const F& f) const {
    f(lane);
  }
  // Lane l takes in lane l + half, and so on: the tree of the contract where there are 8. Every
  // thread gets the sum, since a + b has the bits of b + a.
  __device__ double sum(PerLane x) const {
    for (int half = kSize / 2; half; half /= 2)
      x.value = add(x.value, __shfl_xor_sync(mask(), x.value, half));
    return x.value;
  }
  // The first thread's x.
  __device__ double same(double x) const { return __shfl_sync(mask(), x, 0, kSize); }
  __device__ bool leads() const { return lane == 0; }
  __device__ unsigned mask() const {
    return (0xffffffffu >> (32 - kSize)) << (threadIdx.x % 32 / kSize * kSize);
  }
#else
  struct PerLane {
    double value[kSize] = {};
    double& operator[](int lane) { return value[lane]; }
  };
  template <class F>
  void each(const F& f) const {
    for (int i = 0; i < kSize; ++i) f(backwards ? kSize - 1 - i : i);
  }
  double sum(PerLane x) const {
    for (int half = kSize / 2; half; half /= 2)
      for (int lane = 0; lane < half; ++lane) x[lane] = add(x[lane], x[lane + half]);
    return x[0];
  }
  double same(double x) const { return x; }
  bool leads() const { return true; }
#endif
};

// Runs f(team) for every team of kSize threads, and waits for all of them.
template <int kSize, class AnyBlock, class F>
ENTROSELECT_ANY void each_team(const AnyBlock& block, const F& f) {
  static_assert(AnyBlock::threads % kSize == 0, "a block has whole teams");
  block.each([&](int t) {
#if defined(__CUDACC__)
    f(Team<kSize>{t / kSize, t % kSize});
#else
    if (t % kSize == 0) f(Team<kSize>{t / kSize});
#endif
  });
}

// a[t] <- a[0] + ... + a[t]; both arrays have one place per thread.
template <class AnyBlock>
ENTROSELECT_ANY void add_up(const AnyBlock& block, int* a, int* scratch) {
  for (int step = 1; step < AnyBlock::threads; step *= 4) {
    block.each([&](int t) { scratch[t] = a[t] + (t >= step ? a[t - step] : 0); });
    block.each([&](int t) { a[t] = scratch[t] + (t >= 2 * step ? scratch[t - 2 * step] : 0); });
  }
}

// The best of all, one per thread, for every thread; overwrites the array, and reads it after the
// last sync.
template <class AnyBlock, class Key>
ENTROSELECT_ANY Key find_best(const AnyBlock& block, Key* best) {
  constexpr int kParts = AnyBlock::threads < 512 ? 16 : 32;
  static_assert(AnyBlock::threads % kParts == 0, "parts of equal size");
  block.each([&](int t) {
    if (t >= kParts) return;
    Key found = best[t];
    for (int i = t + kParts; i < AnyBlock::threads; i += kParts)
      if (best[i].beats(found)) found = best[i];
    best[t] = found;
  });
  Key found = best[0];
  for (int i = 1; i < kParts; ++i)
    if (best[i].beats(found)) found = best[i];
  return found;
}

}  // namespace entroselect::cuda
