"""What goes to stdout and to stderr: --json, -q, -v, colours; completion; what helps promise."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from entroselect.cli.app import EXAMPLES, app
from entroselect.cli.output import document, wants_progress
from tests.support import processes
from tests.support.commands import fails, ok, run
from tests.support.loop_runs import TINY

GUIDE = (processes.ROOT / "docs" / "guides" / "command_line.md").read_text("utf-8")
# Commands that need the folder `inputs` alone.
COMMANDS = {
    "select": ("select", "pool.npy", "-k", "5", "-o", "out"),
    "entropy": ("entropy", "pool.npy"),
    "nearest": ("nearest", "pool.npy", "real.npy", "-o", "out"),
    "deduplicate": ("deduplicate", "pool.npy", "--distance", "1", "-o", "out"),
    "diagnose": ("diagnose", "generated.npy", "real.npy"),
    "info": ("info",),
}


@pytest.fixture
def inputs(folder: Path) -> Path:
    """A folder with the files of the examples."""
    draw = np.random.default_rng(1)
    for name in ("generated", "real", "training"):
        np.save(f"{name}.npy", draw.normal(size=(60, 5)))
    return folder


def promised(command: str) -> set[str]:
    """The keys that the guide lists for a command."""
    (row,) = re.findall(rf"^\| `{command}` \| (.*) \|$", GUIDE, re.M)
    return set(re.findall(r"`(\w+)`", row))


def only_document(shown: str) -> dict[str, Any]:
    """stdout as one JSON object on one line; NaN and infinity are no JSON."""
    assert shown.endswith("\n")
    assert shown.count("\n") == 1

    def none(word: str) -> None:
        raise AssertionError(word)

    found: dict[str, Any] = json.loads(shown, parse_constant=none)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_document_with_the_keys_of_the_guide(inputs: Path, command: str) -> None:
    found = only_document(ok(*COMMANDS[command], "--json").stdout)
    assert set(found) == promised(command)
    if "out" in found:
        assert found.pop("out") == str(inputs / "out")
        assert found == json.loads(Path("out/report.json").read_text("utf-8"))


@pytest.mark.slow
def test_json_of_the_loop(inputs: Path) -> None:
    pytest.importorskip("diffusers")
    from entroselect.loop import config

    Path("tiny.json").write_text(config.to_json(TINY))
    loop = ("loop", "-o", "out", *_settings(json.loads(Path("tiny.json").read_text())))
    stopped = only_document(ok(*loop, "--json", "--max-seconds", 0).stdout)
    assert stopped == {"out": str(inputs / "out"), "complete": False, "space": None,
                       "iterations": []}  # fmt: skip
    found = only_document(ok(*loop, "--json").stdout)
    assert set(found) == promised("loop")
    assert (found["complete"], found["space"]) == (True, "pixels")
    assert [row["iteration"] for row in found["iterations"]] == [1, 2, 3]
    assert all(np.isfinite(row["entropy"]) for row in found["iterations"])
    assert "measured in the space pixels" in ok(*loop).stdout  # the same for people
    page = only_document(ok("report", "out", "-o", "page.html", "--export", "all", "--json").stdout)
    assert set(page) == promised("report")
    assert {Path(file) for file in page["figures"]} == set((inputs / "all").iterdir())
    dry = only_document(ok(*loop, "--dry-run", "--json").stdout)
    assert set(dry) == promised("loop --dry-run")
    assert dry["config"]["iterations"] == 3


def _settings(options: dict[str, Any], before: str = "") -> list[str]:
    """The options of a configuration as `--set` has them."""
    given = []
    for name, value in options.items():
        if isinstance(value, dict):
            given += _settings(value, f"{before}{name}.")
        elif value is not None:
            given += ["--set", f"{before}{name}={json.dumps(value)}"]
    return given


def test_what_no_json_has_becomes_null(capsys: pytest.CaptureFixture[str]) -> None:
    document({"a": [float("nan"), 1.5], "b": {"c": (float("-inf"),)}})
    assert only_document(capsys.readouterr().out) == {"a": [None, 1.5], "b": {"c": [None]}}


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_and_verbose(inputs: Path, command: str) -> None:
    force = ["--force"] if "-o" in COMMANDS[command] else []
    loud, quiet = ok(*COMMANDS[command]), ok("-q", *COMMANDS[command], *force)
    assert (quiet.stderr, bool(quiet.stdout)) == ("", True)
    more = ok("--verbose", *COMMANDS[command], *force)
    assert loud.stderr.count("\n") < more.stderr.count("\n")
    assert re.search(r"^took \d+\.\d\d s and at most \d.* of memory$", more.stderr, re.M)
    if command != "info":
        assert re.search(r"^backend cpu:\w+, \d+ threads$", more.stderr, re.M)
        assert f"{COMMANDS[command][1]}: 60 rows of 5 columns, npy, float" in more.stderr
    assert loud.stdout.count("\n") == quiet.stdout.count("\n") == more.stdout.count("\n")


def test_quiet_still_says_what_is_wrong(inputs: Path) -> None:
    fails(1, "-q", "entropy", "none.npy", saying=["none.npy"])
    np.save("few.npy", np.load("real.npy")[:4])
    few = ("--anchor", "few.npy", "-k", 5, "-o", "out")
    said = ok("-q", "select", "generated.npy", *few).stderr
    assert said.startswith("warning: reference: too small to steer by")
    assert said.count("\n") == 1
    assert wants_progress()  # -q was for those commands alone


def test_options_before_the_command(inputs: Path) -> None:
    fails(2, "-q", "-v", "info", saying=["'-q / -v': pass one of the two"])
    for option in ("-q", "--verbose", "--debug", "--version"):
        fails(2, "entropy", "pool.npy", option,
              saying=[f"{option} goes before the command: entroselect {option} ..."])  # fmt: skip
    fails(2, "entropy", "pool.npy", "--bogus", saying=["No such option: --bogus"])


def test_examples_of_the_helps_run(inputs: Path) -> None:
    for function, lines in EXAMPLES.items():
        command = typer.main.get_command(app).commands[function.__name__]
        shown = ok(function.__name__, "-h").stdout
        for line in lines:
            assert line in shown
            word, name, *arguments = shlex.split(line)
            assert (word, name) == ("entroselect", function.__name__)
            command.make_context(name, list(arguments))
            if name not in ("loop", "report"):
                ok(name, *arguments)


def test_exit_codes_are_documented(folder: Path) -> None:
    codes = re.findall(r"^ {4}(\d+) +(.+)$", ok("--help").stdout, re.M)
    assert [int(code) for code, _ in codes] == [0, 1, 2, 129, 130, 141, 143]
    assert codes == re.findall(r"^\| (\d+) \| (.+) \|$", GUIDE, re.M)


def test_anything_but_a_command_is_refused(folder: Path) -> None:
    assert run().stdout == run("--help").stdout == run("-h").stdout
    fails(2, "entropy", "", saying=["an argument is empty"])
    fails(2, "selct", saying=["No such command 'selct'. Did you mean 'select'?"])


# Terminals


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Everything that the command prints on a terminal, as bytes come."""
    number, descriptor = pty.fork()
    if number == 0:
        os.environ.pop("NO_COLOR", None)
        os.environ.update({"TERM": "xterm-256color", "COLUMNS": "80", **environment})
        os.execv(sys.executable, [sys.executable, "-m", "entroselect", *arguments])
    shown = b""
    while True:
        try:
            read = os.read(descriptor, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not read:
            break
        shown += read
    os.close(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0, shown
    return shown.decode()


@pytest.mark.slow
def test_no_escape_sequences_on_a_terminal(inputs: Path) -> None:
    for arguments in (("info",), ("-q", *COMMANDS["select"]), ("--help",), ("entropy", "--help")):
        shown = on_a_terminal(*arguments, FORCE_COLOR="1")
        assert "\x1b" not in shown
        assert max(map(len, shown.splitlines())) <= 80
    # A bar moves the cursor; it has a colour unless NO_COLOR says no.
    colour = re.compile(r"\x1b\[[\d;]*m")
    entropy = ("entropy", "pool.npy")
    assert colour.search(on_a_terminal(*entropy))
    plain = on_a_terminal(*entropy, NO_COLOR="1")
    assert not colour.search(plain.replace("\x1b[0m", ""))


@pytest.mark.slow
def test_completion(inputs: Path) -> None:
    if importlib.util.find_spec("shellingham") is None:
        pytest.skip("typer asks shellingham which shell this is")
    script = f"""
        entroselect() {{ {sys.executable} -m entroselect "$@"; }}
        export PATH="$PWD/bin:$PATH"
        eval "$({sys.executable} -m entroselect --show-completion bash)"
        complete -p entroselect
        for line in "entroselect sel" "entroselect select x --metric co" "entroselect select po"; do
            read -ra COMP_WORDS <<< "$line"
            COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
            _entroselect_completion entroselect
            echo "[${{COMPREPLY[*]}}]"
        done
    """
    Path("bin").mkdir()
    Path("bin/entroselect").write_text(f'#!/bin/sh\nexec {sys.executable} -m entroselect "$@"\n')
    Path("bin/entroselect").chmod(0o755)
    done = processes.run(["bash", "--norc", "-c", script])
    # Where entroselect has nothing to say, "-o default" completes names of files.
    assert done.stdout.splitlines() == [
        "complete -o default -F _entroselect_completion entroselect",
        "[select]",
        "[cosine]",
        "[]",
    ]
