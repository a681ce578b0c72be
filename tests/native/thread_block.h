// A block of threads in which every thread is one, and so are its barriers: for ThreadSanitizer,
// which then finds what a CUDA block would race for. Blocks of a grid run together, as many as
// there are threads for.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace entroselect::cuda {

// Threads that wait for work; they live as long as the program.
class Crew {
 public:
  static constexpr int kMost = 256;

  // Calls work(i) for i < count, each on a thread of its own.
  void run(int count, const std::function<void(int)>& work) {
    std::unique_lock lock(mutex_);
    while (int(threads_.size()) < count)
      threads_.emplace_back([this, i = int(threads_.size()), seen = turn_] { wait(i, seen); });
    work_ = &work;
    count_ = busy_ = count;
    ++turn_;
    begin_.notify_all();
    done_.wait(lock, [&] { return busy_ == 0; });
  }

  ~Crew() {
    {
      std::unique_lock lock(mutex_);
      ended_ = true;
      begin_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void wait(int i, int64_t seen) {
    std::unique_lock lock(mutex_);
    for (;;) {
      begin_.wait(lock, [&] { return ended_ || turn_ != seen; });
      if (ended_) return;
      seen = turn_;
      if (i >= count_) continue;
      lock.unlock();
      (*work_)(i);
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable begin_, done_;
  const std::function<void(int)>* work_ = nullptr;
  int count_ = 0, busy_ = 0;
  int64_t turn_ = 0;
  bool ended_ = false;
};

inline Crew crew;

template <int kThreads>
struct Block {
  static constexpr int threads = kThreads;
  int64_t at, blocks;
  int thread;
  pthread_barrier_t* barriers;
  mutable int turn = 0;
  int64_t index() const { return at; }
  int64_t count() const { return blocks; }
  template <class F>
  void each(const F& f) const {
    f(thread);
    sync();
  }
  // Two barriers take turns: the sanitizer takes what a fast thread did up to its next wait at the
  // same one for done before a slow thread leaves this wait, and would miss races.
  void sync() const { pthread_barrier_wait(&barriers[turn ^= 1]); }
};

template <class Kernel, class AnyStream>
void launch(const Kernel& kernel, int64_t blocks, AnyStream) {
  constexpr int kThreads = Kernel::threads, kAtOnce = Crew::kMost / kThreads;
  struct Running {
    typename Kernel::Shared shared;
    pthread_barrier_t barriers[2];
  };
  const auto running = std::make_unique<Running[]>(kAtOnce);
  for (int64_t first = 0; first < blocks; first += kAtOnce) {
    const int together = int(blocks - first < kAtOnce ? blocks - first : kAtOnce);
    for (int b = 0; b < together; ++b) {
      std::memset(static_cast<void*>(&running[b].shared), 0xa5, sizeof running[b].shared);
      for (auto& barrier : running[b].barriers) pthread_barrier_init(&barrier, nullptr, kThreads);
    }
    crew.run(together * kThreads, [&](int i) {
      Running& own = running[i / kThreads];
      kernel(Block<kThreads>{first + i / kThreads, blocks, i % kThreads, own.barriers}, own.shared);
    });
    for (int b = 0; b < together; ++b)
      for (auto& barrier : running[b].barriers) pthread_barrier_destroy(&barrier);
  }
}

}  // namespace entroselect::cuda
