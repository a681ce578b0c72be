// A small pool of worker threads. Answers never depend on how many there are.
#pragma once

#include <cstdint>
#include <functional>

namespace entroselect {

// Calls body(item, worker) for every item in [0, items), worker in [0, threads), in any order. The
// calling thread takes part and calls `poll` every 50 ms or so; if that throws, no new items are
// started and the exception is passed on once those running have ended. One call runs at a time;
// callers from several threads take turns. A call from within `body` or `poll` runs on its own
// thread alone and does not poll; waiting there for another thread that calls this would wait
// forever.
void parallel_for(int threads, int64_t items, const std::function<void(int64_t, int)>& body,
                  const std::function<void()>& poll);

}  // namespace entroselect
