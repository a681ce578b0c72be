"""Folders of results: complete or absent, and never in the place of other files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import entroselect
from entroselect.cli import inputs, result_folder, select
from entroselect.cli.result_folder import new_folder
from tests.support import processes
from tests.support.commands import entries, fails, ok, run
from tests.support.results import STEP, check_selection, report


def appearing(monkeypatch, command, act):
    """Something happens while the command works."""
    where, name = "entroselect.cli.pick.", "greedy_select"
    if command == "nearest":
        where, name = "entroselect.cli.nearest.", "nearest_distances"
    original = getattr(entroselect, name)

    def work(*arguments, **options):
        act()
        return original(*arguments, **options)

    monkeypatch.setattr(where + name, work)
    return [command, "pool.npy", "-k", 5, "-o", "out"]


def thesis():
    Path("out").mkdir(exist_ok=True)
    Path("out/thesis.txt").write_text("years of work")


@pytest.mark.parametrize("command", ["select", "nearest"])
@pytest.mark.parametrize("options", [[], ["--force"]])
def test_what_others_put_there_meanwhile_stays(folder, monkeypatch, command, options):
    arguments = appearing(monkeypatch, command, thesis)
    Path("out-2").mkdir()
    Path("out-2/other.txt").write_text("")
    fails(1, *arguments, *options, saying=[f"{folder / 'out'}: ", f"are in {folder / 'out-3'}"])
    assert entries(folder / "out") == ["thesis.txt"]
    assert "indices.npy" in entries(folder / "out-3")
    assert entries(folder) == ["out", "out-2", "out-3", "pool.npy"]


@pytest.mark.parametrize("command", ["select", "nearest"])
@pytest.mark.parametrize("swaps", [True, False])
def test_what_others_add_to_an_earlier_result_stays(folder, monkeypatch, command, swaps):
    if not swaps:
        monkeypatch.setattr(result_folder, "_exchange", lambda *_: False)
    ok(command, "pool.npy", "-k", 3, "-o", "out")
    arguments = appearing(monkeypatch, command, thesis)
    fails(1, *arguments, "--force", saying=["thesis.txt", f"are in {folder / 'out-2'}"])
    assert "thesis.txt" in entries(folder / "out")
    assert np.load("out/indices.npy").shape == ((3,) if command == "select" else (60, 3))
    assert "indices.npy" in entries(folder / "out-2")
    assert entries(folder) == ["out", "out-2", "pool.npy"]


def test_a_file_that_appears_in_the_last_moment_stays(folder, monkeypatch):
    """After the last look, and before the names are swapped."""
    ok("select", "pool.npy", "-k", 3, "-o", "out")
    exchange = result_folder._exchange
    calls = []

    def late(one, other):
        if not calls:
            thesis()
        calls.append(one)
        return exchange(one, other)

    monkeypatch.setattr(result_folder, "_exchange", late)
    fails(1, "select", "pool.npy", "-k", 5, "-o", "out", "--force", saying=["thesis.txt", "out-2"])
    assert "thesis.txt" in entries(folder / "out")
    assert len(np.load("out/indices.npy")) == 3
    check_selection("out-2")
    assert entries(folder) == ["out", "out-2", "pool.npy"]


def test_an_empty_folder_or_a_result_that_appears(folder, monkeypatch):
    ok("select", "pool.npy", "-k", 3, "-o", "there")
    arguments = appearing(monkeypatch, "select", Path("out").mkdir)
    ok(*arguments)
    check_selection()
    arguments = appearing(monkeypatch, "select", lambda: Path("there").rename("new"))
    ok(*arguments[:-1], "new", "--force")
    check_selection("new")
    arguments = appearing(monkeypatch, "select", lambda: Path("file").write_text("mine"))
    fails(1, *arguments[:-1], "file", "--force", saying=["is no folder", "file-2"])
    assert Path("file").read_text() == "mine"
    check_selection("file-2")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda out: (out / "report.json").unlink(), "no report.json of entroselect"),
        (lambda out: (out / "report.json").write_text('{"mine": 1}'), "no report.json of"),
        (lambda out: (out / "report.json").write_text("[" * 100_000), "no report.json of"),
        (lambda out: (out / ".hidden").write_text(""), ".hidden"),
        (lambda out: (out / "sub").mkdir(), "sub"),
        (lambda out: (out / "report.html").mkdir(), "report.html"),
        (lambda out: (out / "report.html").symlink_to("../pool.npy"), "report.html"),
        (lambda out: (out / "indices.npy.partial").write_text(""), "indices.npy.partial"),
        (lambda out: (out / ".thesis.txt.partial").write_text(""), ".thesis.txt.partial"),
    ],
)
def test_force_knows_its_own(folder, monkeypatch, make, word):
    ok("select", "pool.npy", "-k", 3, "-o", "out")
    make(folder / "out")
    there = entries(folder / "out")
    with monkeypatch.context() as patched:
        patched.setattr(inputs, "read", None)  # before the work
        fails(1, "select", "pool.npy", "-k", 5, "-o", "out", "--force", saying=[word, "--out"])
    assert entries(folder / "out") == there


def test_force_replaces_what_a_killed_run_left(folder):
    ok("select", "pool.npy", "-k", 3, "-o", "out")
    Path("out/.report.json.partial").write_text("{")
    ok("select", "pool.npy", "-k", 5, "-o", "out", "--force")
    check_selection()
    assert entries(folder / "out") == ["indices.npy", "report.json", "selection.csv"]
    Path("empty").mkdir()
    ok("select", "pool.npy", "-k", 5, "-o", "empty", "--force")
    check_selection("empty")


def test_force_never_leaves_a_moment_without_results(folder, monkeypatch):
    """After every single step that moves a folder there is one under the name."""
    ok("select", "pool.npy", "-k", 3, "-o", "out")
    if not result_folder._exchange(Path("out"), Path("out")):
        pytest.skip("names cannot be swapped here")
    rename, moments = Path.rename, []

    def watched(path, target):
        try:
            return rename(path, target)
        finally:
            moments.append(Path("out/report.json").is_file())

    monkeypatch.setattr(Path, "rename", watched)
    ok("select", "pool.npy", "-k", 5, "-o", "out", "--force")
    assert moments
    assert all(moments)
    check_selection()


def test_without_a_swap_a_kill_between_two_renames_is_put_right(folder, monkeypatch):
    monkeypatch.setattr(result_folder, "_exchange", lambda *_: False)
    ok("select", "pool.npy", "-k", 3, "-o", "out")
    rename = Path.rename
    fail = [KeyboardInterrupt()]

    def broken(path, target):
        if path.name.endswith(".partial") and not Path("out").exists() and fail:
            raise fail.pop()
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", broken)
        result = run("select", "pool.npy", "-k", 5, "-o", "out", "--force")
    assert result.exit_code == 130
    assert entries(folder) == ["out", "pool.npy"]
    assert len(np.load("out/indices.npy")) == 3

    # As SIGKILL leaves it: the next run with this OUT puts it back first.
    Path("out").rename(f".out.{dead_process()}-00000000.replaced")
    fails(1, "select", "pool.npy", "-k", 5, "-o", "out", saying=["exists already"])
    assert entries(folder) == ["out", "pool.npy"]
    ok("select", "pool.npy", "-k", 5, "-o", "out", "--force")
    check_selection()
    assert entries(folder) == ["out", "pool.npy"]


def dead_process():
    with processes.started("-c", "") as process:
        process.wait()
    return process.pid


def test_what_killed_runs_left_is_swept_up(folder):
    dead = dead_process()
    left = [f".out.{dead}-0123abcd.partial", f".out.{dead}-0123abce.replaced"]
    spared = [
        f".out.{dead}-0123abcf.partial",  # holds something else
        f".out.{os.getpid()}-0123abcd.partial",  # of a process that lives
        f".other.{dead}-0123abcd.partial",
        f".out.{dead}-0123abcd.partial.txt",
        ".out.abc.partial",
    ]
    Path("out").mkdir()
    for name in (*left, *spared):
        Path(name).mkdir()
        Path(name, "indices.npy").write_text("")
        Path(name, ".report.json.partial").write_text("")
    Path(spared[0], "thesis.txt").write_text("")
    Path(f".out.{dead}-0123abd0.partial").symlink_to("out-2")
    ok("select", "pool.npy", "-k", 5, "-o", "out", "--force")
    there = [".out." + str(dead) + "-0123abd0.partial", *spared, "out", "pool.npy"]
    assert entries(folder) == sorted(there)
    assert entries(folder / spared[0]) == ["thesis.txt"]
    check_selection()


def test_folders_are_locked_while_they_are_written(folder):
    with new_folder(Path("out"), force=False) as made:
        for options in ([], ["--force"]):
            fails(1, "select", "pool.npy", "-k", 5, "-o", "out", *options,
                  saying=["another entroselect", str(os.getpid()), "is writing it"])  # fmt: skip
        made.write_json("report.json", {"versions": {"entroselect": "0"}})
        made.publish()  # and while more is added
        fails(1, "nearest", "pool.npy", "-o", "out", "--force", saying=["another entroselect"])
        made.write("report.html", "late")
    assert entries(folder / "out") == ["report.html", "report.json"]
    ok("select", "pool.npy", "-k", 5, "-o", "out", "--force")


def test_measures_follow_a_folder_that_is_moved(folder, monkeypatch):
    def move(*_, **__):
        if not Path("moved").exists():
            Path("out").rename("moved")
            thesis()
        return select.Spread(0, None, np.empty(0), 0)

    monkeypatch.setattr(STEP + "spread", move)
    ok("select", "pool.npy", "-k", 5, "-o", "out", "--report")
    assert entries(folder / "out") == ["thesis.txt"]
    assert report("moved")["finished"]
    assert "report.html" in entries(folder / "moved")


def test_a_full_disk_names_the_file_and_leaves_nothing(folder, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for command in ("select", "nearest"):
        fails(1, command, "pool.npy", "-k", 5, "-o", "out", saying=["out/indices.npy: No space"])
    assert entries(folder) == ["pool.npy"]


def test_new_files_never_follow_links(folder):
    Path("mine.txt").write_text("mine")
    with new_folder(Path("out"), force=False) as made:
        work = next(folder.glob(".out.*"))
        (work / "report.html").symlink_to(folder / "mine.txt")
        (work / ".index.html.partial").symlink_to(folder / "mine.txt")
        made.write("report.html", "page")
        with pytest.raises(OSError, match=r"index\.html"):
            made.write("index.html", "page")
    assert Path("mine.txt").read_text() == "mine"
    assert Path("out/report.html").read_text() == "page"
