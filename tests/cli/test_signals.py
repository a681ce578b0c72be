"""Signals at any moment: a selection is complete or absent, and the message says how to
continue."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from entroselect import greedy_select
from entroselect.cli import errors
from tests.support import processes
from tests.support.commands import entries, ok, run
from tests.support.results import report


def interruptible():
    """A test run in the background, or under nohup, may itself have been told to ignore these."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def measuring(*options, rows=19_000, columns=256):
    """A run that measures for a long time, once its selection is written."""
    drawn = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    np.save("big.npy", drawn)
    with processes.started(
        "-m", "entroselect", "select", "big.npy", "-k", "5", "-o", "out",
        "--backend", "cpu:portable", *options,
        environment={"ENTROSELECT_THREADS": "1"}, preexec_fn=interruptible,
    ) as process:  # fmt: skip
        while not Path("out/report.json").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        yield process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
)
def test_signals_while_measuring_leave_the_selection(folder, number, code):
    with measuring() as process:
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


@pytest.mark.slow
def test_ctrl_c_at_any_moment_after_the_selection(folder):
    """While libraries are imported, rows are measured, files are written, pictures are drawn."""
    options = ["--metric", "cosine", "--parquet", "--report", "--force"]
    began, delay = 0, 0.0
    while began < 5:
        with measuring(*options, rows=2000, columns=16) as process:
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

    monkeypatch.setattr("entroselect.cli.pick.greedy_select", interrupted)
    result = run("select", "pool.npy", "-k", 5, "-o", "out", "--checkpoint", "c")
    assert result.exit_code == 130
    said = result.stderr.splitlines()[-1]
    assert "out was not written; what is picked so far is in c" in said
    assert entries(folder) == ["c", "pool.npy"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_leaves_nothing(folder):
    np.save("big.npy", np.random.default_rng(0).normal(size=(30_000, 256)).astype(np.float32))
    with processes.started(
        "-m", "entroselect", "select", "big.npy", "-k", "25000", "-o", "out",
        "--backend", "cpu:portable", preexec_fn=interruptible,
    ) as process:  # fmt: skip
        while not list(folder.glob(".out.*.partial")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted: nothing was written"
    assert "Traceback" not in said
    assert entries(folder) == ["big.npy", "pool.npy"]


def test_ctrl_c_before_the_command(folder, monkeypatch):
    from entroselect.__main__ import main

    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr("entroselect.cli.app.app", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


class Destroyed:
    """Interrupts while it is destroyed, where Python throws away what is raised."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def destroyed():
    Destroyed()
    for _ in range(1000):  # the rest of the command
        time.sleep(0.01)
    pytest.fail("nothing ended it")


def swallowed():
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def made_another_error():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:
        raise RuntimeError("Error calling __set_name__") from error


@pytest.mark.parametrize("lose", [destroyed, swallowed, made_another_error])
def test_no_signal_is_lost(folder, monkeypatch, capsys, lose):
    def losing(*_):
        lose()
        return "page"

    before = signal.signal(signal.SIGINT, signal.default_int_handler), sys.unraisablehook
    monkeypatch.setattr("entroselect.report.selection.selection_page", losing)
    result = run("select", "pool.npy", "-k", 5, "-o", "out", "--report")
    assert result.exit_code == 130, result.output
    assert result.stderr.splitlines()[-1].startswith("interrupted")
    assert "Exception ignored" not in result.stderr
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert sys.unraisablehook is before[1]
    signal.signal(signal.SIGINT, before[0])
    assert np.load("out/indices.npy").shape == (5,)


def test_other_handlers_of_signals_are_left_alone(folder):
    def mine(*_):
        pass

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with errors.plain_failures():
            assert signal.getsignal(signal.SIGTERM) is mine
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with errors.plain_failures():
            assert signal.getsignal(signal.SIGTERM) not in (mine, signal.SIG_DFL)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
