"""A failure of a command is one plain line that names the file and the option."""

from __future__ import annotations

import errno
import importlib
import json
import lzma
import os
import shlex
import struct
import sys
import tokenize
import zlib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from entroselect import kl_entropy
from entroselect.cli import inputs
from entroselect.cli.app import app
from entroselect.cli.errors import in_options
from entroselect.io.errors import printable
from tests.support import processes
from tests.support.commands import entries, fails, ok, run

STRAY = [
    ZeroDivisionError("division by zero"),
    EOFError("ran out of input"),
    KeyError("rows"),
    IndexError("list index out of range"),
    struct.error("unpack requires 4 bytes"),
    zlib.error("Error -3"),
    lzma.LZMAError("Corrupt input data"),
    tokenize.TokenError("EOF in multi-line statement", (1, 2)),
    IndentationError("unexpected indent"),
    RecursionError("maximum recursion depth exceeded"),
    NotImplementedError("compression type 99"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ImportError("No module named 'nothing'"),
    AssertionError(),
    BufferError("memoryview"),
]


@pytest.mark.parametrize("stray", STRAY, ids=lambda error: type(error).__name__)
def test_whatever_a_reader_raises_names_the_file(folder, monkeypatch, stray):
    def broken(*_, **__):
        raise stray

    np.save("sel.npy", [0, 1])
    with monkeypatch.context() as patched:
        patched.setattr(inputs, "open_pool", broken)
        for command in (["select", "-k", 5, "-o", "out"], ["entropy"], ["nearest", "-o", "out"]):
            fails(1, command[0], "pool.npy", *command[1:],
                  saying=["error: pool.npy: cannot be read", type(stray).__name__])  # fmt: skip
    monkeypatch.setattr(inputs, "read_selected", broken)
    fails(1, "select", "pool.npy", "-k", 5, "-o", "out", "--selected", "sel.npy",
          saying=["error: --selected: sel.npy: cannot be read"])  # fmt: skip
    assert entries(folder) == ["pool.npy", "sel.npy"]


@pytest.mark.parametrize("stray", STRAY, ids=lambda error: type(error).__name__)
def test_whatever_the_work_raises_is_one_line(folder, monkeypatch, stray):
    def broken(*_, **__):
        raise stray

    monkeypatch.delenv("ENTROSELECT_DEBUG", raising=False)
    for command, module, name in (
        ("select", "pick", "greedy_select"),
        ("entropy", "entropy", "kl_entropy"),
        ("nearest", "nearest", "nearest_distances"),
    ):
        module = importlib.import_module(f"entroselect.cli.{module}")
        monkeypatch.setattr(module, name, broken)
        out = [] if command == "entropy" else ["-o", "out"]
        arguments = [command, "pool.npy", "-k", 5, *out]
        result = fails(1, *arguments, saying=["pool.npy: internal error", type(stray).__name__])
        assert len(result.stderr.splitlines()) == 1
        assert "Traceback" in run("--debug", *arguments).stderr
    monkeypatch.setenv("ENTROSELECT_DEBUG", "1")
    result = run(*arguments)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert entries(folder) == ["pool.npy"]


def test_a_message_without_a_file_gets_one(folder, monkeypatch):
    def broken(*_, **__):
        raise ValueError("truncated")

    monkeypatch.setattr(inputs, "open_pool", broken)
    fails(1, "entropy", "pool.npy", saying=["error: pool.npy: truncated"])


def test_what_the_system_says_has_no_number(folder, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "pool.npy")

    monkeypatch.setattr(inputs, "open_pool", denied)
    fails(1, "entropy", "pool.npy", saying=["error: pool.npy: Permission denied"])


# Options, not arguments


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("pass duplicates='drop' to keep", "pass --duplicates drop to keep"),
        ("the distance `floor`", "the distance --floor"),
        ("choose one with key (--key): a, b", "choose one with --key: a, b"),
        ("pass memory_limit to read it", "pass --memory-limit to read it"),
        ("only start='random' draws", "only --start random draws"),
        ("memory_limit.npy: a/memory_limit: 'memory_limit'",) * 2,
        ("x.npy: row 3: k is 4, keys=5",) * 2,
    ],
)
def test_advice_is_about_options(said, shown):
    assert in_options(said) == shown


def test_options_are_named(folder):
    np.save("wide.npy", np.ones((2, 3)))
    for arguments, said in (
        (["-k", 61], "error: -k: must be at least 1 and at most 60"),
        (["-k", 3, "--start", 60], "error: --start: must be"),
        (["-k", 3, "--method", "threshold", "--decay", 2], "error: --decay: expected"),
        (["-k", 3, "--memory-limit", 10], "error: --memory-limit: 10 bytes"),
        (["-k", 3, "--checkpoint", "no/c"], "error: --checkpoint: no: no such folder"),
        (["-k", 3, "--min-distance", "inf"], "error: --min-distance: expected"),
        (["-k", 3, "--selected", "wide.npy"], "wide.npy: has 3 columns but pool.npy has 5"),
    ):
        fails(1, "select", "pool.npy", "-o", "out", *arguments, saying=[said])
    np.save("zero.npy", np.array([[0.0, 0.0], [1.0, 1.0]]))
    fails(1, "select", "zero.npy", "-k", 1, "-o", "out", "--metric", "cosine",
          saying=["zero.npy: row 0", "--metric cosine"])  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--metric", "l1"],
            "'--metric': 'l1' is not one of 'euclidean', 'cosine', 'tanimoto', 'hamming' (see ",
        ),
        (["-k", "many"], "'-k': must be a valid integer (see "),
        (["--fraction", "x"], "'--fraction': must be a valid number (see "),
        (["--backend", "faiss", "-k", 3], "selection is exact only; the other commands take it"),
        (["--seed", -1], "'--seed': must be greater than or equal to 0 (see "),
    ],
)
def test_words_of_the_command_line(folder, arguments, said):
    fails(2, "select", "pool.npy", "-o", "out", *arguments, saying=[said])


@pytest.fixture
def odd(folder):
    """Files that are no lists of rows."""
    Path("folder.npy").mkdir()
    os.mkfifo("fifo.npy")
    Path("loop.npy").symlink_to("loop.npy")
    Path("zero.npy").symlink_to("/dev/zero")
    Path("empty.npy").write_bytes(b"")
    Path("text.npy").write_text("0\n1\n")
    np.save("bool.npy", [True, False])
    np.save("float.npy", [0.5, 1.5])
    np.save("text2.npy", ["a", "b"])
    np.save("negative.npy", [-1])
    np.save("outside.npy", [60])
    np.save("twice.npy", [3, 3])
    np.save("number.npy", 3)
    np.save("objects.npy", np.array([1, None]), allow_pickle=True)
    np.save("whole.npy", [0, 1])
    whole = Path("whole.npy").read_bytes()
    Path("cut.npy").write_bytes(whole[:-3])
    Path("header.npy").write_bytes(whole.replace(b"(2,), }", b"2(, ), }"))
    return folder


NOT_ROWS = (
    "folder.npy", "fifo.npy", "loop.npy", "zero.npy", "empty.npy", "text.npy", "number.npy",
    "objects.npy", "cut.npy", "header.npy", "missing.npy", "/dev/null", "bool.npy", "float.npy",
    "text2.npy",
)  # fmt: skip


@pytest.mark.parametrize("name", [*NOT_ROWS, "negative.npy", "outside.npy", "twice.npy"])
def test_odd_files_of_selected_rows(odd, name):
    there = entries(odd)
    fails(1, "select", "pool.npy", "-k", 5, "-o", "out", "--selected", name, saying=[f"{name}: "])
    assert entries(odd) == there


@pytest.mark.parametrize("name", NOT_ROWS)
def test_odd_files_as_pools(odd, name):
    there = entries(odd)
    fails(1, "select", name, "-k", 1, "-o", "out", saying=[f"{name}: "])
    fails(1, "nearest", "pool.npy", name, "-o", "out", saying=[f"{name}: "])
    fails(1, "deduplicate", name, "--distance", 1, "-o", "out", saying=[f"{name}: "])
    fails(1, "diagnose", "pool.npy", name, "--json", saying=[f"{name}: "])
    fails(1, "entropy", name, saying=[f"{name}: "])
    assert entries(odd) == there


# What reaches the terminal


EVIL = "e\x1b[2J\x9b1m\rv\u202ei\nl\udcff.npy"


def test_nothing_in_a_name_is_obeyed(folder):
    def tame(text):
        assert all(c.isprintable() or c == "\n" for c in text), repr(text)

    Path("pool.npy").rename(EVIL)
    result = fails(1, "select", EVIL, "-k", 61, "-o", "out", saying=["-k: "])
    tame(result.output)
    for arguments in (["entropy", EVIL + "x"], ["entropy", EVIL, "--key", "\x1b[31m"],
                      ["nearest", EVIL, "x\x1b[31m.npy", "-o", "out"],
                      ["select", EVIL, "-k", 1, "-o", "no\x1b[31m/x"]):  # fmt: skip
        said = fails(1, *arguments, saying=["\\x1b["]).output
        tame(said)
        assert said.count(".npyx") == (EVIL + "x" in arguments)  # named once
    tame(fails(2, "entropy", EVIL, "--\x1b[31m", saying=["\\x1b["]).output)
    tame(fails(2, "select", EVIL, "-k", "\x1b[31m", "-o", "out", saying=["-k"]).output)
    result = ok("select", EVIL, "-k", 5, "-o", "o" + EVIL, "--report")
    tame(result.output)
    assert "\\udcff" in result.stderr
    assert json.loads(Path("o" + EVIL, "report.json").read_text())["options"]["pool"] == EVIL
    page = Path("o" + EVIL, "report.html").read_text(encoding="utf-8")
    assert "e\\x1b[2J" in page
    tame(page)
    found = json.loads(ok("entropy", EVIL, "--json").stdout)
    assert found["entropy_nats"] == float(kl_entropy(np.load(EVIL)))


def test_brackets_are_not_markup(folder, monkeypatch):
    reason = "faiss is not installed: pip install 'entroselect[faiss]' :smile: \x1b[31m"
    monkeypatch.setattr("entroselect.backends.faiss.why_not", lambda: reason)
    shown = " ".join(ok("info").stdout.replace("│", "").split())
    assert "pip install 'entroselect[faiss]' :smile: \\x1b[31m" in shown
    monkeypatch.setattr("entroselect.backends.faiss.why_not", lambda: "nicht für hier")
    result = CliRunner(charset="ascii").invoke(app, ["info"])
    assert result.exit_code == 0, result.exception
    assert "nicht f\\xfcr hier" in result.stdout
    Path("pool.npy").rename("[bold]pool[red].npy")
    result = ok("select", "[bold]pool[red].npy", "-k", 5, "-o", "[red]out")
    assert "[red]out" in result.stderr
    fails(1, "entropy", "[bold]no[red].npy", saying=["[bold]no[red].npy"])


@pytest.mark.slow
def test_what_is_offered_for_copying_works_in_a_shell(folder, monkeypatch):
    pytest.importorskip("diffusers")
    monkeypatch.setattr("entroselect.loop.iterate.run", lambda *_, **__: True)
    monkeypatch.setattr("entroselect.cli.loop._show", lambda *_: None)
    out = "my $run's (1); exit"
    said = ok("loop", "-o", out).stderr
    offered = said[said.index("entroselect report") :].splitlines()[0]
    assert shlex.split(offered) == ["entroselect", "report", out, "-o", "report.html"]


def test_printable():
    assert printable("plain, accents éß, 漢字, 🙂") == "plain, accents éß, 漢字, 🙂"
    assert printable("\x1b]0;title\x07\u2066\u200f\t\x7f") == (
        r"\x1b]0;title\x07\u2066\u200f\t\x7f"
    )


COMMANDS = ["", "select", "deduplicate", "entropy", "nearest", "diagnose", "loop", "report", "info"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_plain_text_of_80_columns(folder, command):
    shown = ok(*filter(None, [command]), "--help").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.isascii()


def shell(line, **environment):
    """What a shell makes of `$E ...`, the command."""
    known = {"E": f"{sys.executable} -m entroselect", **environment}
    return processes.run(["bash", "-c", line], code=None, environment=known)


SELECT = "$E select pool.npy -k 5 -o out"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (f"{SELECT} | head -c 0; exit ${{PIPESTATUS[0]}}", 141, ""),
        ("$E info | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("$E entropy pool.npy --json | head -c 0; exit ${PIPESTATUS[0]}", 141, ""),
        (f"{SELECT} 2>&1 >/dev/null | head -c 0; exit ${{PIPESTATUS[0]}}", 0, ""),
        (f"{SELECT} >&-", 0, ""),
        (f"{SELECT} 2>&-", 0, ""),
        (f"{SELECT} <&- >&- 2>&-", 0, ""),
        ("$E select <&- >&- 2>&-", 2, ""),
        (f"{SELECT} >/dev/full", 1, "error: stdout could not be written: No space left"),
        ("PYTHONUNBUFFERED=1 $E info >/dev/full", 1, "error: stdout could not be written: No sp"),
        (f"{SELECT} 2>/dev/full", 0, ""),
    ],
)
def test_streams_that_are_closed_or_full(folder, line, code, said):
    done = shell(line)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert said in done.stderr
    if "select pool" in line:
        assert json.loads(Path("out/report.json").read_text())["finished"]


def test_a_pipe_that_closes_in_the_middle(folder):
    Path("long.py").write_text(
        "from entroselect.cli.errors import plain_failures\n"
        "with plain_failures():\n    for line in range(100_000):\n        print(line)\n"
    )
    done = shell(f"{sys.executable} long.py | head -n 1; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stdout, done.stderr) == (141, "0\n", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_terminals_without_unicode(folder, environment):
    name = "pöol\udcff.npy"
    Path("pool.npy").rename(name)
    done = shell('$E select p*.npy -k 5 -o "out-$(ls p*.npy)" && $E info', **environment)
    assert done.returncode == 0, done.stderr
    assert "picked 5 of 60 rows" in done.stdout
    assert (done.stdout + done.stderr).isascii()
    assert "written: " in done.stderr
