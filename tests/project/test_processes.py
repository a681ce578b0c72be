"""What the tests rely on when they start processes: reasons are shown, and nothing is left over."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import processes


def test_what_a_failure_printed_is_shown() -> None:
    good, bad = [sys.executable, "-c", "print('fine')"], [sys.executable, "-c", "print('x'); 1/0"]
    with pytest.raises(AssertionError, match=r"ended with 1 instead of 0") as error:
        processes.together([good, bad])
    assert "ZeroDivisionError" in str(error.value)
    assert processes.run(bad, code=None).stdout == "x\n"
    assert [done.stdout for done in processes.together([good, good])] == ["fine\n", "fine\n"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_children_end_with_the_test(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys, time\n"
        "if os.fork() == 0: pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
        "time.sleep(600)"
    )
    with pytest.raises(AssertionError, match="not at an end after"):
        processes.python("-c", code, tmp_path / "limit", seconds=2)
    with processes.started("-c", code, tmp_path / "left"):
        while not (tmp_path / "left").exists():
            time.sleep(0.01)
    time.sleep(0.05)
    for name in ("limit", "left"):
        child = (tmp_path / name).read_text()
        assert not _runs(int(child or 0)), name
    assert isinstance(processes.run(["true"]), subprocess.CompletedProcess)


def _runs(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return ") Z " not in Path(f"/proc/{number}/stat").read_text()
