"""Limits of containers, read from files as the kernel writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from entroselect import _cgroup, _memory
from entroselect._settings import threads


class Groups:
    """A false /proc/self/cgroup and /sys/fs/cgroup."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, membership: str, **files: str) -> None:
        """`files` by path, with __ for / and _ for the dot."""
        (self.folder / "membership").write_text(membership)
        for name, text in files.items():
            *groups, file = name.split("__")
            path = self.folder.joinpath("mount", *groups, file.replace("_", ".", 1))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        _cgroup.processors.cache_clear()


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Groups]:
    monkeypatch.setattr(_cgroup, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(_cgroup, "MOUNT", tmp_path / "mount")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.delenv("ENTROSELECT_THREADS", raising=False)
    _cgroup.processors.cache_clear()
    yield Groups(tmp_path)
    _cgroup.processors.cache_clear()


def test_a_quota_of_version_2(groups: Groups) -> None:
    groups("0::/\n", cpu_max="200000 100000\n")
    assert threads() == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("150000 100000", 2),  # rounded up
        ("1000 100000", 1),
        ("300000 50000", 6),
        ("6400000 50000", 64),  # more than the affinity allows
        ("max 100000", 64),
        ("200000 0", 64),
        ("nonsense", 64),
        ("", 64),
    ],
)
def test_quotas(text: str, expected: int, groups: Groups) -> None:
    groups("0::/\n", cpu_max=text)
    assert threads() == expected


def test_the_smallest_of_all_groups_above_counts(groups: Groups) -> None:
    groups(
        "0::/pod/app\n",
        cpu_max="max 100000",
        pod__cpu_max="300000 100000",
        pod__app__cpu_max="800000 100000",
    )
    assert threads() == 3
    groups("0::/pod/app\n", pod__app__cpu_max="100000 100000")
    assert threads() == 1


def test_names_of_groups_outside_the_container(groups: Groups) -> None:
    groups("0::/system.slice/docker-1f.scope\n", cpu_max="400000 100000")
    assert threads() == 4
    groups("0::/../../elsewhere\n")
    assert threads() == 4


def test_a_quota_of_version_1(groups: Groups) -> None:
    groups(
        "5:cpu,cpuacct:/a\n4:memory:/b\n1:name=systemd:/\n0::/\n",
        cpu__cpu_cfs_quota_us="-1",
        cpu__cpu_cfs_period_us="100000",
        cpu__a__cpu_cfs_quota_us="250000",
        cpu__a__cpu_cfs_period_us="100000",
        memory__memory_limit_in_bytes="9223372036854771712",
        memory__b__memory_limit_in_bytes="7340032",
    )
    assert threads() == 3
    assert _cgroup.memory() == 7340032
    assert _memory.available() == 7340032


def test_memory_of_version_2(groups: Groups) -> None:
    groups("0::/pod\n", memory_max="max", pod__memory_max="5242880\n")
    assert _memory.available() == 5242880
    groups("0::/\n")
    assert _cgroup.memory() is None


def test_without_control_groups(groups: Groups) -> None:
    assert threads() == 64
    assert _cgroup.memory() is None


def test_what_is_asked_for_goes_before_a_quota(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups("0::/\n", cpu_max="200000 100000")
    monkeypatch.setenv("ENTROSELECT_THREADS", "7")
    assert threads() == 7


def test_processes_of_torchrun_share_a_quota(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups("0::/\n", cpu_max="600000 100000")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert threads() == 2
