"""`python -m entroselect.cli.demo_loop`: the loop on digits without a selection and with, compared.

Two runs side by side, each on one thread, a few minutes. Started again, it resumes. It ends with
what its own figures say, for or against the selection.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import IO

from entroselect import _files
from entroselect.cli.errors import plain_failures, say, show
from entroselect.loop.compared import arms, findings
from entroselect.loop.report import page
from entroselect.loop.runs import read

METHODS = ("none", "greedy")
# Few images collapse fast: the entropy of the arm without a selection falls from the start.
SETTINGS = ("data.images=256", "train.steps=1200", "train.warmup=120")
ITERATIONS = 3


def main(arguments: list[str] | None = None) -> None:
    """Runs the demo; failures as in entroselect/cli/errors.py."""
    parser = argparse.ArgumentParser(
        prog="python -m entroselect.cli.demo_loop", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=Path("demo-loop"), help="folder to make")
    parser.add_argument("--set", action="append", default=[], help="further options of the loop")
    options = parser.parse_args(arguments)
    with plain_failures():
        run(options.out, options.set)


def run(out: Path, settings: list[str]) -> None:
    """Runs the arms in out/none and out/greedy, writes out/report.html and prints findings."""
    out.mkdir(parents=True, exist_ok=True)
    started = {method: _start(out / method, method, [*SETTINGS, *settings]) for method in METHODS}
    relays = [
        threading.Thread(target=_relay, args=(method, arm.stderr))
        for method, arm in started.items()
    ]
    try:
        for relay in relays:
            relay.start()
        failed = [method for method, arm in started.items() if arm.wait()]
    finally:
        for arm in started.values():
            arm.kill()
        for relay in relays:
            relay.join()
    if failed:
        raise RuntimeError(f"the arm {failed[0]} failed; the lines above say why")
    folders = [out / method for method in METHODS]
    _files.write_text(out / "report.html", page(folders))
    runs = read(folders)
    space = list(runs[0].measured[0]["spaces"])[-1]
    show(f"What came out, measured in the space {space}:")
    for sentence in findings(arms(runs), space):
        show(textwrap.fill(sentence, 79, initial_indent="- ", subsequent_indent="  "))
    say(f"written: {out / 'report.html'}")


def _start(folder: Path, method: str, settings: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "entroselect", "loop", "--preset", "digits"]
    command += ["--select", method, "--iterations", str(ITERATIONS), "--out", str(folder)]
    command += [part for setting in settings for part in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ENTROSELECT_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )


def _relay(method: str, lines: IO[str] | None) -> None:
    assert lines is not None
    with lines:
        for line in lines:
            say(f"{method:>6}: {line.rstrip()}")


if __name__ == "__main__":
    main()
