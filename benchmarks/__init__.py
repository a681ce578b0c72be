"""Benchmarks of entroselect against its peers; see support/harness.py for how time is taken."""

import os

# A variable that pins OpenBLAS to an older CPU's kernels (some images set one) would slow down
# every peer and flatter us. OpenBLAS reads it once, when NumPy is first imported.
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)
