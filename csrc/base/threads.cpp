#include "base/threads.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/float_environment.h"

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

thread_local bool inside = false;  // inside a callback, which may call parallel_for again

class Workers {
 public:
  // Starts count - 1 threads, or as many as the system allows.
  explicit Workers(int count) : wanted_(count) {
    try {
      for (int w = 1; w < count; ++w) threads_.emplace_back([this, w] { serve(w); });
    } catch (const std::system_error&) {
      // Fewer threads do the same work.
    }
  }

  ~Workers() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      quit_ = true;
      gate_.fetch_add(kGeneration, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  int wanted() const { return wanted_; }

  void run(int threads, int64_t items, const std::function<void(int64_t, int)>& body,
           const std::function<void()>& poll) {
    body_ = &body;
    items_ = items;
    threads_now_ = threads;
    next_.store(0, std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      gate_.fetch_add(kGeneration + kOpen, std::memory_order_release);
    }
    if (threads > 1) wake_.notify_all();
    std::exception_ptr error;
    try {
      work(0, poll);
    } catch (...) {
      error = std::current_exception();
      next_.store(items, std::memory_order_relaxed);
    }
    // This waits only for workers that have entered: one that the system has not scheduled yet
    // finds the gate closed and sleeps again.
    gate_.fetch_sub(kOpen, std::memory_order_acq_rel);
    while ((gate_.load(std::memory_order_acquire) & kInside) > 0) relax();
    if (worker_error_) std::swap(error, worker_error_);
    worker_error_ = nullptr;
    if (error) std::rethrow_exception(error);
  }

 private:
  void work(int worker, const std::function<void()>& poll) {
    for (;;) {
      const int64_t item = next_.fetch_add(1, std::memory_order_relaxed);
      if (item >= items_) return;
      (*body_)(item, worker);
      if (!poll) continue;
      const auto now = Clock::now();
      if (now - polled_ > std::chrono::milliseconds(50)) {
        polled_ = now;
        poll();
      }
    }
  }

  void serve(int worker) {
    const FloatEnvironment environment;  // not that of the caller that started the thread
    inside = true;
    uint64_t seen = 0;  // generation last looked at
    const auto changed = [&] {
      return gate_.load(std::memory_order_acquire) / kGeneration != seen;
    };
    for (;;) {
      // Rounds follow each other within microseconds: spin for a while before sleeping.
      const auto deadline = Clock::now() + std::chrono::microseconds(200);
      while (!changed() && Clock::now() < deadline)
        for (int i = 0; i < 32; ++i) relax();
      if (!changed()) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, changed);
      }
      uint64_t gate = gate_.load(std::memory_order_acquire);
      seen = gate / kGeneration;
      if (quit_) return;
      while (gate / kGeneration == seen && (gate & kOpen) &&
             !gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) {
      }
      if (gate / kGeneration != seen || !(gate & kOpen)) continue;
      try {
        if (worker < threads_now_) work(worker, nullptr);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex_);
        worker_error_ = std::current_exception();
        next_.store(items_, std::memory_order_relaxed);
      }
      gate_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  // One word: workers inside (low bits), whether more may enter, and the generation above.
  static constexpr uint64_t kInside = 0xffff, kOpen = 0x10000, kGeneration = 0x20000;

  const int wanted_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> gate_{0};
  std::atomic<int64_t> next_{0};
  std::atomic<bool> quit_{false};
  int64_t items_ = 0;
  int threads_now_ = 1;
  const std::function<void(int64_t, int)>* body_ = nullptr;
  std::exception_ptr worker_error_;
  // When any caller last polled for Ctrl-C: many short calls add up to a long one.
  Clock::time_point polled_ = Clock::now();
};

// One call at a time. Allocated and never freed: at exit, threads may still be waiting on it.
struct State {
  std::mutex use;
  std::unique_ptr<Workers> workers;
};

std::atomic<State*>& state() {
  static std::atomic<State*> current{[] {
    // A forked child has neither the threads nor, if one of them was at work, an unlocked mutex.
    pthread_atfork(nullptr, nullptr, [] {
      inside = false;
      state() = new State;
    });
    return new State;
  }()};
  return current;
}

}  // namespace

void parallel_for(int threads, int64_t items, const std::function<void(int64_t, int)>& body,
                  const std::function<void()>& poll) {
  if (inside) {
    for (int64_t item = 0; item < items; ++item) body(item, 0);
    return;
  }
  State& here = *state().load();
  std::lock_guard<std::mutex> lock(here.use);
  if (!here.workers || here.workers->wanted() < threads) {
    here.workers.reset();
    here.workers = std::make_unique<Workers>(threads);
  }
  struct Mark {
    Mark() { inside = true; }
    ~Mark() { inside = false; }
  } mark;
  here.workers->run(threads, items, body, poll);
}

}  // namespace entroselect
