"""Other processes for tests: with a time limit, with their whole output when they fail, and ended
with their children when the test ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

ROOT = Path(__file__).parents[2]

Done = subprocess.CompletedProcess[str]


def python(*arguments: Any, **options: Any) -> Done:
    """`python ARGUMENTS`, as `run` runs it."""
    return run([sys.executable, *arguments], **options)


def run(command: Sequence[Any], **options: Any) -> Done:
    """Runs one command; see `together`."""
    return together([command], **options)[0]


def together(
    commands: Sequence[Sequence[Any]],
    *,
    code: int | None = 0,
    seconds: float = 120,
    cwd: Path | str | None = None,
    environment: dict[str, str] | None = None,
) -> list[Done]:
    """Runs commands at the same time, to the end. Each must end with `code`, if that is not None.

    Raises:
        AssertionError: with what all of them printed, if one ends otherwise or time is up.
    """
    with contextlib.ExitStack() as stack:
        out = [
            (stack.enter_context(TemporaryFile()), stack.enter_context(TemporaryFile()))
            for _ in commands
        ]
        running = [
            stack.enter_context(_popen(command, cwd, environment, stdout=stdout, stderr=stderr))
            for command, (stdout, stderr) in zip(commands, out, strict=True)
        ]
        until, wrong = time.monotonic() + seconds, ""
        while not wrong:
            codes = [process.poll() for process in running]
            bad = [found for found in codes if found is not None and found != code]
            if bad and code is not None:
                wrong = f"ended with {bad[0]} instead of {code}"
            elif None not in codes:
                break
            elif time.monotonic() > until:
                wrong = f"not at an end after {seconds} s"
            else:
                time.sleep(0.01)
        done = [
            subprocess.CompletedProcess(process.args, process.poll() or 0, *map(_text, said))
            for process, said in zip(running, out, strict=True)
        ]
    said = "\n".join(f"{each.args}:\n{each.stdout[-4000:]}{each.stderr[-8000:]}" for each in done)
    assert not wrong, f"{wrong}\n{said}"
    return done


@contextlib.contextmanager
def started(
    *arguments: Any,
    cwd: Path | str | None = None,
    environment: dict[str, str] | None = None,
    **options: Any,
) -> Iterator[subprocess.Popen[str]]:
    """`python ARGUMENTS` while a test does something to it; `options` as of subprocess.Popen."""
    command, pipe = [sys.executable, *arguments], subprocess.PIPE
    with _popen(command, cwd, environment, stdout=pipe, stderr=pipe, **options) as process:
        yield process


@contextlib.contextmanager
def _popen(
    command: Sequence[Any], cwd: Any, environment: dict[str, str] | None, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A process that leads a group of its own, which is killed in the end."""
    process = subprocess.Popen(
        [part if isinstance(part, os.PathLike) else str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        text=True,
        start_new_session=True,
        **options,
    )
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
