"""The tests. torch computes on one thread in them unless told otherwise: the loop ends with the
same bytes only on the same number of threads, which it would measure."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
