"""Stages of a check: commands with a time limit, each in a process group of its own, with their
whole output in one log. A stage that hangs is interrupted, asked where it is, then killed."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

# What a command that does not end is sent, and the seconds it has after each: tests and
# measurements stop at the first; at the second, Python's faulthandler prints where every thread is,
# also inside a call that does not return.
SIGNALS = ((signal.SIGINT, 8.0), (signal.SIGABRT, 3.0), (signal.SIGKILL, 3.0))
ENDING = sum(seconds for _, seconds in SIGNALS)

# A stage that has fewer seconds than this is skipped.
LEAST = 2.0

# Bytes that a stage has in the log; more is cut out of its middle.
LONGEST_LOG = 1 << 20

# The summary: its lines, its characters, the length of its lines (the first that fits), and the
# lines of a failing stage's log in it.
LINES, CHARACTERS, WIDTHS, LINES_OF_A_FAILURE = 100, 11_500, range(160, 99, -10), 24

# How Python's faulthandler begins, after SIGABRT for instance; the innermost call comes first.
FATAL = "Fatal Python error"

PASSED, TIMED_OUT = "passed", "TIMED OUT"


@dataclass(frozen=True)
class Stage:
    """Commands that run one after the other until one fails. "{seconds}" in one of their words is
    replaced by the seconds that are left for the stage."""

    name: str
    commands: Sequence[Sequence[str]]
    seconds: float  # at most
    needed: bool = False  # if it does not pass, later stages are skipped
    shown: int = 1  # last lines of its log that the summary has when it passed, none indented
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a stage ended, and what it printed."""

    stage: Stage
    state: str
    seconds: float = 0.0
    lines: Sequence[str] = ()

    @property
    def skipped(self) -> bool:
        """Whether it did not run."""
        return self.state.startswith("skipped")

    @property
    def failed(self) -> bool:
        """Whether it ran and did not pass."""
        return self.state != PASSED and not self.skipped

    def __str__(self) -> str:
        return f"{self.stage.name:12} {self.seconds:6.1f} s  {self.state}"


class Stages:
    """Runs stages until `end`, a time of time.monotonic(); `outcomes` has what came of them."""

    def __init__(self, log: Path, cwd: Path, environment: Mapping[str, str], end: float) -> None:
        self.log, self.cwd, self.environment, self.end = log, cwd, environment, end
        self.outcomes: list[Outcome] = []
        log.write_bytes(b"")

    def run(self, stage: Stage) -> Outcome:
        """Runs one stage, unless a stage that it needs did not pass or no time is left.

        Raises:
            KeyboardInterrupt: of the check itself; the stage has been stopped, its outcome is kept.
        """
        begun, start = time.monotonic(), self.log.stat().st_size
        seconds = min(stage.seconds, self.end - ENDING - begun)
        state = self._why_skipped(stage, seconds)
        if state:
            self.outcomes.append(Outcome(stage, state))
            return self.outcomes[-1]
        state = "INTERRUPTED"
        try:
            state = self._commands(stage, begun + seconds)
        finally:
            _shorten(self.log, start)
            self._keep(stage, state, time.monotonic() - begun, start)
        return self.outcomes[-1]

    def _why_skipped(self, stage: Stage, seconds: float) -> str:
        for earlier in self.outcomes:
            if earlier.failed and earlier.stage.needed:
                return f"skipped: {earlier.stage.name} did not pass"
        for words in stage.commands:
            if shutil.which(words[0]) is None:
                return f"skipped: {words[0]} was not found"
        return "skipped: no time left" if seconds < LEAST else ""

    def _commands(self, stage: Stage, end: float) -> str:
        for words in stage.commands:
            left = max(0.1, end - time.monotonic())
            command = [word.replace("{seconds}", f"{left:.0f}") for word in words]
            with self.log.open("ab", buffering=0) as log:
                log.write(f"\n==== {stage.name}: {' '.join(command)[:200]}\n".encode())
                environment = {**self.environment, **stage.environment}
                code = run(command, left, log, self.cwd, environment)
            if code is None:
                return TIMED_OUT
            if code:
                return f"FAILED ({code})"
        return PASSED

    def _keep(self, stage: Stage, state: str, seconds: float, start: int) -> None:
        lines = _lines(self.log.read_bytes()[start:])
        self.outcomes.append(Outcome(stage, state, seconds, lines))


def run(
    command: Sequence[str],
    seconds: float,
    log: IO[bytes],
    cwd: Path,
    environment: Mapping[str, str],
) -> int | None:
    """The exit status of a command, None if it had to be stopped. Nothing of its group is left."""
    process = subprocess.Popen(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=log,
        stderr=subprocess.STDOUT, preexec_fn=_lead_a_group,
    )  # fmt: skip
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _stop(process)


def _lead_a_group() -> None:
    # A group and no session: whatever ends this check's session ends the group too.
    os.setpgrp()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # SIGABRT writes no image of the memory


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        for number, grace in SIGNALS:
            if process.poll() is not None:
                break
            _send(process, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
    finally:
        _send(process, signal.SIGKILL)  # what the command has left behind


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _shorten(log: Path, start: int) -> None:
    """Cuts the middle out of what stands in the log from `start` on, if that is too long."""
    if log.stat().st_size - start <= LONGEST_LOG:
        return
    text = log.read_bytes()
    half = LONGEST_LOG // 2
    log.write_bytes(text[: start + half] + b"\n[...]\n" + text[-half:])


def _lines(text: bytes) -> list[str]:
    """Lines of a log that say something, as a terminal shows them."""
    lines = [
        line.rpartition("\r")[2].rstrip() for line in text.decode(errors="replace").split("\n")
    ]
    return [line for line in lines if line.strip(" ^~") and not line.startswith("==== ")]


def _excerpt(outcome: Outcome, most: int) -> list[str]:
    """At most that many lines of what a stage printed. The last ones: where it passed, of those
    that are not indented; where a process was aborted, up to there, then where it was."""
    lines = list(outcome.lines)
    if outcome.state == PASSED:
        return [line for line in lines if not line.startswith(" ")][-most:]
    ends = [place for place, line in enumerate(lines) if line.startswith(FATAL)]
    if not ends:
        return lines[-most:]
    at, before = ends[-1] + 1, most // 3
    here = next((i for i in range(at, len(lines)) if lines[i].startswith("Current thread")), at)
    return lines[max(0, at - before) : at] + lines[here : here + most - before]


def summary(title: str, outcomes: Sequence[Outcome]) -> list[str]:
    """All outcomes, then an excerpt of what each stage printed; failures have more of it: at most
    `LINES` lines and `CHARACTERS`."""
    told = [title, *(str(outcome) for outcome in outcomes)]
    left = LINES - len(told) - 1
    shown: dict[int, list[str]] = {}
    # Failures come first where there is not room for all, and have equal shares of it.
    failures = sum(outcome.failed for outcome in outcomes)
    share = min(LINES_OF_A_FAILURE, left // max(1, failures) - 1)
    for place in sorted(range(len(outcomes)), key=lambda place: not outcomes[place].failed):
        outcome = outcomes[place]
        most = min(share if outcome.failed else outcome.stage.shown, left - 1)
        if most > 0 and outcome.lines:
            shown[place] = _excerpt(outcome, most)
            left -= len(shown[place]) + 1
    for place, lines in sorted(shown.items()):
        outcome = outcomes[place]
        told += [f"-- {outcome.stage.name}: {outcome.state}", *lines]
    told.append(f"gpu-check: {_in_a_word(outcomes)}")
    for width in WIDTHS:
        cut = [line if len(line) <= width else f"{line[: width - 3]}..." for line in told]
        if sum(map(len, cut)) + len(cut) <= CHARACTERS:
            break
    return cut


def _in_a_word(outcomes: Sequence[Outcome]) -> str:
    for what in ("failed", "skipped"):
        names = [each.stage.name for each in outcomes if getattr(each, what)]
        if names:
            return f"{what}: {', '.join(names)}"
    return "passed"
