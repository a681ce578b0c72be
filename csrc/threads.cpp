#include "threads.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace entroselect {

namespace {

using Clock = std::chrono::steady_clock;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Workers {
 public:
  explicit Workers(int count) : owner_(getpid()) {
    for (int w = 1; w < count; ++w) threads_.emplace_back([this, w] { serve(w); });
  }

  ~Workers() {
    if (getpid() != owner_) {  // a forked child has the handles but not the threads
      for (auto& thread : threads_) thread.detach();
      return;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      quit_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  int count() const { return int(threads_.size()) + 1; }
  bool usable() const { return getpid() == owner_; }

  void run(int threads, int64_t items, const std::function<void(int64_t, int)>& body,
           const std::function<void()>& poll) {
    body_ = &body;
    items_ = items;
    threads_now_ = threads;
    next_.store(0, std::memory_order_relaxed);
    busy_.store(int(threads_.size()), std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    std::exception_ptr error;
    try {
      work(0, poll);
    } catch (...) {
      error = std::current_exception();
      next_.store(items, std::memory_order_relaxed);
    }
    while (busy_.load(std::memory_order_acquire) > 0) relax();
    if (worker_error_) std::swap(error, worker_error_);
    worker_error_ = nullptr;
    if (error) std::rethrow_exception(error);
  }

 private:
  void work(int worker, const std::function<void()>& poll) {
    auto last = Clock::now();
    for (;;) {
      const int64_t item = next_.fetch_add(1, std::memory_order_relaxed);
      if (item >= items_) return;
      (*body_)(item, worker);
      if (!poll) continue;
      const auto now = Clock::now();
      if (now - last > std::chrono::milliseconds(50)) {
        last = now;
        poll();
      }
    }
  }

  void serve(int worker) {
    uint64_t seen = 0;
    for (;;) {
      // Rounds follow each other within microseconds: spin for a while before sleeping.
      const auto deadline = Clock::now() + std::chrono::microseconds(200);
      while (generation_.load(std::memory_order_acquire) == seen && Clock::now() < deadline)
        for (int i = 0; i < 32; ++i) relax();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      }
      seen = generation_.load(std::memory_order_acquire);
      if (quit_) return;
      try {
        if (worker < threads_now_) work(worker, nullptr);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex_);
        worker_error_ = std::current_exception();
        next_.store(items_, std::memory_order_relaxed);
      }
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  const pid_t owner_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int64_t> next_{0};
  std::atomic<int> busy_{0};
  bool quit_ = false;
  int64_t items_ = 0;
  int threads_now_ = 1;
  const std::function<void(int64_t, int)>* body_ = nullptr;
  std::exception_ptr worker_error_;
};

std::mutex use;
std::unique_ptr<Workers> workers;

}  // namespace

void parallel_for(int threads, int64_t items, const std::function<void(int64_t, int)>& body,
                  const std::function<void()>& poll) {
  std::lock_guard<std::mutex> lock(use);
  if (workers && !workers->usable()) workers.release();  // forked: its threads are the parent's
  if (!workers || workers->count() < threads) {
    workers.reset();
    workers = std::make_unique<Workers>(threads);
  }
  workers->run(threads, items, body, poll);
}

}  // namespace entroselect
