"""Libraries linked with -ffast-math, which change the floating-point environment when they are
loaded."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest

from entroselect import kl_entropy
from tests.support import processes

LINE = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])

LIBRARY = """
/* What -ffast-math links into a shared library where the compiler still does that: it is run when
   the library is loaded, in the thread that loads it. */
#if defined(__x86_64__)
#include <xmmintrin.h>
__attribute__((constructor)) static void fast_math(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }
void single_precision(void) {
  unsigned short control = 0x007f;
  __asm__ volatile("fldcw %0" : : "m"(control));
}
#elif defined(__aarch64__)
__attribute__((constructor)) static void fast_math(void) {
  __asm__ volatile("msr fpcr, %0" : : "r"(1ul << 24));
}
void single_precision(void) {}
#endif
"""


@pytest.fixture(scope="module")
def fast_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared library built with -Ofast."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("fast")
    (folder / "fast.c").write_text(LIBRARY)
    command = [compiler, "-Ofast", "-shared", "-fPIC", "-o", "fast.so", "fast.c"]
    processes.run(command, cwd=folder)
    return folder / "fast.so"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before the import", "before the first call", "between calls"])
def test_libraries_linked_with_fast_math(when: str, fast_library: Path) -> None:
    load = f"ctypes.CDLL({str(fast_library)!r}).single_precision()"
    places = ["before the import", "before the first call", "between calls"]
    loads = {place: load if place == when else "" for place in places}
    code = textwrap.dedent(
        f"""
        import ctypes, os, numpy as np
        {loads["before the import"]}
        import entroselect
        {loads["before the first call"]}
        line = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])
        os.environ["ENTROSELECT_THREADS"] = "2"
        entroselect.greedy_select(line, 3)
        {loads["between calls"]}
        assert (np.full(1, 2.3e-308) * np.full(1, 0.5))[0] == 0  # subnormal numbers are gone
        print(entroselect.greedy_select(line * 1e-155, 3).indices.tolist())
        print((entroselect.nearest_distances(line * 1e-155).distances == 0).sum())
        print(entroselect.kl_entropy(line * 1e-155).hex())
        """
    )
    printed = processes.python("-c", code).stdout
    exact = kl_entropy(LINE * 1e-155)
    assert printed.splitlines() == ["[0, 4, 2]", "0", float(exact).hex()]
