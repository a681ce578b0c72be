// Settling with a real thread for every thread of a CUDA block, built with ThreadSanitizer and run
// by tests/backends/test_cuda_host.py: an answer is right, and no barrier is missing.

#include "cuda_settling.h"

int main() {
  farthest(8, 200);
  in_order(8, 200);
  conflicts(8, 200);
}
