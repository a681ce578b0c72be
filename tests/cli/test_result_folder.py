"""Results of the command line: written before anything is measured, never in place of what others
put there, and never lost."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import entroselect
from entroselect import greedy_select, kl_entropy, nearest_distances
from entroselect.cli import inputs, result_folder, select
from entroselect.cli.result_folder import new_folder
from entroselect.cli.signals import Terminated
from tests.support.commands import entries, fails, ok, run

STEP = "entroselect.cli.select."


def report(out="out"):
    return json.loads(Path(out, "report.json").read_text())


def check_selection(out="out", k=5):
    """The selection of k rows of pool.npy stands in the folder, whole."""
    expected = greedy_select(np.load("pool.npy"), k)
    assert np.load(f"{out}/indices.npy").tolist() == expected.indices.tolist()
    with Path(out, "selection.csv").open(newline="") as file:
        assert [int(line["index"]) for line in csv.DictReader(file)] == expected.indices.tolist()
    assert report(out)["picked"] == k
    assert report(out)["radius"] == expected.radius


# Written first, measured after


@pytest.mark.parametrize(
    ("step", "options"),
    [
        ("spread", []),
        ("cover", ["--report"]),
        ("selection_files.table", ["--parquet"]),
        ("selection_files.write_parquet", ["--parquet"]),
    ],
)
@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (RuntimeError("the engine broke"), 1, "error: the engine broke; "),
        (MemoryError(), 1, "error: out of memory; "),
        (OSError(28, "No space left on device"), 1, "error: No space left on device; "),
        (IndexError("7"), 1, "error: internal error: IndexError: 7; "),
        (KeyboardInterrupt(), 130, "interrupted: "),
        (Terminated(), 143, "ended: "),
    ],
)
def test_a_selection_outlives_its_measures(folder, monkeypatch, step, options, raised, code, said):
    def broken(*_, **__):
        check_selection()  # before anything is measured
        assert not report()["finished"]
        raised.args = raised.args[:2]
        raise raised

    monkeypatch.setattr(STEP + step, broken)
    result = run("select", "pool.npy", "-k", 5, "-o", "out", *options)
    assert result.exit_code == code, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith(said)
    assert last.endswith(f"the selection is in {folder / 'out'}; measuring it was not finished")
    check_selection()
    assert not report()["finished"]
    assert entries(folder) == ["out", "pool.npy"]
    assert entries(folder / "out") == ["indices.npy", "report.json", "selection.csv"]


def test_a_page_that_fails_leaves_the_measures(folder, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("entroselect.report.selection.selection_page", broken)
    fails(1, "select", "pool.npy", "-k", 5, "-o", "out", "--report", saying=["the selection is in"])
    check_selection()
    assert report()["finished"]
    assert report()["spread"]["after"]["rows"] == 5


def test_report_json_gets_the_measures(folder):
    ok("select", "pool.npy", "-k", 5, "-o", "out")
    assert report()["finished"]
    assert set(report()["seconds"]) == {"select", "measure", "all"}
    ok("select", "pool.npy", "-k", 5, "-o", "none", "--no-entropy")
    assert report("none")["finished"]
    assert report("none")["spread"] == {}


def test_more_rows_than_are_compared_are_sampled(folder):
    rows = np.random.default_rng(3).normal(size=(20_100, 2))
    np.save("large.npy", rows)
    result = ok("select", "large.npy", "-k", 50, "-o", "out")
    assert "20,000 of 20,100 rows, drawn at random" in result.stderr
    assert "20,100" in result.stdout
    assert "measured rows" in result.stdout
    spread = report()["spread"]
    assert (spread["before"]["rows"], spread["before"]["measured_rows"]) == (20_100, 20_000)
    assert (spread["after"]["rows"], spread["after"]["measured_rows"]) == (50, 50)
    drawn = np.sort(np.random.default_rng(0).choice(20_100, 20_000, replace=False))
    assert spread["before"]["entropy_nats"] == float(kl_entropy(rows[drawn]))

    result = ok("select", "large.npy", "-k", 50, "-o", "all", "--entropy")
    assert "before: 20,100 rows, 2e+08 pairs, about " in result.stderr
    before = report("all")["spread"]["before"]
    assert before["measured_rows"] == 20_100
    assert before["entropy_nats"] == float(kl_entropy(rows))


def test_tables_say_which_distance(folder):
    printed = ok("select", "pool.npy", "-k", 9, "-o", "out", "--metric", "cosine").stdout
    assert "(cosine)" in printed.splitlines()[0]
    assert "entropy (euclidean, nats)" in printed
    assert "mean nearest distance (cosine)" in printed
    assert "compare with --method random" in printed  # 9 rows, of which fewer are farther apart
    assert "(cosine)" in ok("nearest", "pool.npy", "-o", "n", "--metric", "cosine").stdout
    assert max(len(line) for line in printed.splitlines()) <= 80


# Empty selections are results


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--no-entropy"],
        ["--parquet"],
        ["--report"],
        ["--report", "--parquet", "--metric", "cosine"],
        ["--report", "--no-entropy"],
        ["--entropy"],
        ["--memory-limit", "1GB", "--parquet"],
    ],
)
@pytest.mark.parametrize("vectors", [False, True])
def test_nothing_farther_than_min_distance(folder, options, vectors):
    pool = np.load("pool.npy")
    np.save("sel.npy", pool[:2] if vectors else [0, 1])
    ok("select", "pool.npy", "-k", 5, "--selected", "sel.npy", "--min-distance", 1000,
       "-o", "out", *options)  # fmt: skip
    indices = np.load("out/indices.npy")
    assert (indices.shape, indices.dtype) == ((0,), np.int64)
    assert Path("out/selection.csv").read_text() == "rank,index,distance\n"
    assert report()["picked"] == 0
    assert report()["finished"]
    metric = "cosine" if "cosine" in options else "euclidean"
    radius = nearest_distances(pool, pool[:2], metric=metric).distances.max()
    assert report()["radius"] == radius
    for name in ("report.html", "selection.parquet"):
        wanted = "--" + name.split(".")[1].replace("html", "report") in options
        assert (name in entries(folder / "out")) == wanted
    if "--parquet" in options:
        import pyarrow.parquet as pq

        table = pq.read_table("out/selection.parquet")
        assert table.num_rows == 0
        assert table.column_names[:3] == ["rank", "index", "id"]


def test_an_empty_selection_of_a_pool_with_ids(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = np.load("pool.npy")
    pq.write_table(pa.table({"id": list("abc"), "v": rows[:3].tolist()}), "pool.parquet")
    np.save("sel.npy", [0, 1])
    ok("select", "pool.parquet", "-k", 1, "--selected", "sel.npy", "--min-distance", 1000,
       "-o", "out")  # fmt: skip
    assert pq.read_table("out/selection.parquet").num_rows == 0


@pytest.mark.parametrize("none", [np.empty(0, np.int64), np.empty(0)])
def test_nothing_selected_before(folder, none):
    np.save("none.npy", none)
    ok("select", "pool.npy", "-k", 5, "-o", "out", "--selected", "none.npy", "--report")
    check_selection()


def test_the_smallest_sets(folder):
    np.save("one.npy", np.ones((1, 5)))
    ok("select", "one.npy", "-k", 1, "-o", "out", "--report", "--parquet")
    assert report()["spread"]["after"]["mean_nearest_distance"] is None
    ok("nearest", "pool.npy", "one.npy", "-o", "near")
    assert np.load("near/indices.npy").tolist() == [[0]] * 60
    fails(1, "nearest", "one.npy", "-o", "x", saying=["one.npy: at least 2 rows", "without POINTS"])
    fails(1, "entropy", "one.npy", saying=["-k: ", "one.npy has 1"])


@pytest.mark.parametrize(
    ("fraction", "rows", "k"),
    [
        ("0.575", 100, 58),  # 57.49999999999999 in floats; 57.5 is as near to 58, which is even
        ("0.145", 100, 14),
        ("0.29", 100, 29),
        ("0.07", 50, 4),  # 3.5
        ("0.5", 5, 2),
        ("0.001", 60, 1),
        ("1", 60, 60),
        ("1e-1", 60, 6),
    ],
)
def test_fractions_are_decimal_numbers(folder, fraction, rows, k):
    np.save("line.npy", np.arange(float(rows))[:, None])
    ok("select", "line.npy", "--fraction", fraction, "-o", "out", "--no-entropy")
    assert len(np.load("out/indices.npy")) == k


# Folders


def appearing(monkeypatch, command, act):
    """Something happens while the command works."""
    where, name = STEP, "greedy_select"
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
    process = subprocess.Popen([sys.executable, "-c", ""])
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


# Signals


def started(folder, *options, rows=19_000, columns=256):
    """A run that measures for a long time, once its selection is written."""
    drawn = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    np.save("big.npy", drawn)
    process = subprocess.Popen(
        [sys.executable, "-m", "entroselect", "select", "big.npy", "-k", "5", "-o", "out",
         "--backend", "cpu:portable", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"ENTROSELECT_THREADS": "1"},
        # A test run in the background may itself have been told to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not Path("out/report.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
)
def test_signals_while_measuring_leave_the_selection(folder, number, code):
    process = started(folder)
    time.sleep(0.1)
    began = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - began < 10  # on a busy machine; 0.3 s on a quiet one
    assert process.returncode == code, said
    assert "Traceback" not in said
    if code > 0:
        assert f"the selection is in {folder / 'out'}" in said.splitlines()[-1]
    picked = np.load("out/indices.npy")
    assert picked.tolist() == greedy_select(np.load("big.npy"), 5).indices.tolist()
    assert not report()["finished"]
    assert entries(folder) == ["big.npy", "out", "pool.npy"]
    ok("select", "pool.npy", "-k", 5, "-o", "out", "--force")  # is not locked any more


def test_ctrl_c_at_any_moment_after_the_selection(folder):
    """While libraries are imported, rows are measured, files are written, pictures are drawn."""
    options = ["--metric", "cosine", "--parquet", "--report", "--force"]
    began, delay = 0, 0.0
    while began < 5:
        process = started(folder, *options, rows=2000, columns=16)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        if report()["finished"] and Path("out/report.html").exists():
            break  # it was over
        # Arrow runs Python that makes Python end itself by the signal, which shells call 130 too.
        assert process.returncode in (130, -signal.SIGINT), (delay, said)
        assert said.splitlines()[-1].startswith("interrupted: the selection is in "), (delay, said)
        assert "Traceback" not in said, said
        began, delay = began + 1, delay + 0.2
        for file in Path("out").iterdir():
            file.unlink()
    assert began > 2


def test_an_interrupted_selection_says_where_it_goes_on(folder, monkeypatch):
    def interrupted(*_, checkpoint, **__):
        Path(checkpoint).write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(STEP + "greedy_select", interrupted)
    result = run("select", "pool.npy", "-k", 5, "-o", "out", "--checkpoint", "c")
    assert result.exit_code == 130
    said = result.stderr.splitlines()[-1]
    assert "out was not written; what is picked so far is in c" in said
    assert entries(folder) == ["c", "pool.npy"]
