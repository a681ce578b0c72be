// Settling with a real thread for every thread of a CUDA block, built with ThreadSanitizer and run
// by tests/backends/test_cuda_host.py: an answer is right, and no barrier is missing.

#include "cuda_settling.h"

int main() {
  farthest(6, 150);
  in_order(6, 600);
  conflicts(6, 150);
}
