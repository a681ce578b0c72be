"""The limits of a container: those of the control groups that this process is in (Linux).

Versions 1 and 2 are known. The smallest limit of a group and of all groups above it counts. A file
that cannot be read means no limit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MEMBERSHIP, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


@functools.cache
def processors() -> int | None:
    """The quota of processor time as a number of processors, rounded up; None without a quota. The
    files are read once, since every operation needs this number."""
    quotas = []
    for folder in _folders("cpu"):
        words = _words(folder / "cpu.max")
        words = words or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and all(map(str.isdecimal, words)) and int(words[1]) > 0:
            quotas.append(max(1, -(-int(words[0]) // int(words[1]))))
    return min(quotas, default=None)


def memory() -> int | None:
    """The memory limit in bytes; None without one."""
    limits = []
    for folder in _folders("memory"):
        words = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        limits += [int(word) for word in words if word.isdecimal()]
    return min(limits, default=None)


def _folders(controller: str) -> Iterator[Path]:
    """Folders that may hold a limit: the group of this process and those above it. Inside a
    container the names of groups may be those outside; then only the topmost is there."""
    yield MOUNT
    for line in _read(MEMBERSHIP).splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = MOUNT / controller if controllers else MOUNT
        group = PurePosixPath(name.strip("/"))
        if ".." not in group.parts:
            yield from (root / part for part in (group, *group.parents))


def _words(path: Path) -> list[str]:
    return _read(path).split()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
