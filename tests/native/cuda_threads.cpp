// Lists of rows and settling with a real thread for every thread of a CUDA block, built with
// ThreadSanitizer and run by tests/backends/test_cuda_host.py: an answer is right, and no barrier
// is missing.

#include "cuda_lists.h"

int main() {
  frontier(9, 4500);
  candidates(9, 2100);
  refresh(2, 600);
  ranks(2, 100);
  farthest(6, 150);
  in_order(6, 600);
  conflicts(6, 150);
}
