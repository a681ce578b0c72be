"""Runs targets in processes of their own, so that what ends or stops a process is found too.

A child reads changed inputs, each under a time limit and all under a limit of memory. It writes an
input down before it reads it: when the process dies, that file is the finding. Errors that are not
allowed are findings as well; the child then continues.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pkgutil
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import tests.fuzz
from tests.fuzz.mutate import mutated

# What a reader may say of a file, in its own words.
ALLOWED = (ValueError, TypeError, OSError)

CORPUS = Path(__file__).parent / "corpus"

MEMORY = 6 << 30  # of addresses, which libraries reserve generously
SECONDS_AN_INPUT = int(os.environ.get("ENTROSELECT_FUZZ_LIMIT", "10"))

# How a library ends the process over some damaged files, which nothing above it can prevent. Lance
# does if a name or its own error message holds a NUL, or if a length is beyond all memory.
KNOWN_ENDS = {"lance": "SIGABRT"}

Run = Callable[[bytes], None]
Targets = dict[str, tuple[list[bytes], Run]]


@dataclass
class Outcome:
    """Of one target.

    Attributes:
        inputs: how many were read.
        accepted: how many of them without an error.
        findings: what was wrong, and where the input is.
    """

    inputs: int = 0
    accepted: int = 0
    findings: list[str] = field(default_factory=list)


def modules() -> list[str]:
    """The fuzz modules of this folder."""
    found = pkgutil.iter_modules(tests.fuzz.__path__)
    return sorted(module.name for module in found if module.name.startswith("fuzz_"))


def targets(*names: str) -> Targets:
    """Of the given modules, by default of all."""
    found: Targets = {}
    for name in names or [f"tests.fuzz.{name}" for name in modules()]:
        found |= importlib.import_module(name).targets()
    for target, (seeds, _) in found.items():
        seeds += [path.read_bytes() for path in corpus(target)]
    return found


def corpus(target: str) -> list[Path]:
    """The committed inputs of a target: odd files of the field, "read-..." or "refused-...", which
    is what open_pool does with them."""
    return sorted((CORPUS / target).glob("re*-*"))


def homes() -> dict[str, str]:
    """Targets and the modules they are in: a child imports no others."""
    every = [f"tests.fuzz.{name}" for name in modules()]
    return {target: module for module in every for target in targets(module)}


def fuzz(name: str, seconds: float, seed: int, out: Path, module: str) -> Outcome:
    """Tries one target of a module for so long, in as many processes as it ends."""
    outcome, until = Outcome(), time.monotonic() + seconds
    out.mkdir(parents=True, exist_ok=True)
    while time.monotonic() < until:
        (out / "current").unlink(missing_ok=True)
        (out / "counts.json").unlink(missing_ok=True)
        left = max(0.5, until - time.monotonic())
        command = [sys.executable, "-m", "tests.fuzz", "--child", name, "--seconds", str(left)]
        command += ["--seed", str(seed), "--out", str(out), "--module", module]
        with tempfile.TemporaryDirectory(dir=_in_memory()) as scratch:
            environment = {**os.environ, "TMPDIR": scratch, "OMP_NUM_THREADS": "1"}
            child = subprocess.run(
                command, env=environment, stderr=subprocess.PIPE, check=False, timeout=left + 120
            )
        counts = {"inputs": 0, "accepted": 0, "findings": []}
        if (out / "counts.json").exists():
            counts = json.loads((out / "counts.json").read_text())
        outcome.inputs += counts["inputs"]
        outcome.accepted += counts["accepted"]
        outcome.findings += counts["findings"]
        if child.returncode == 0:
            break
        seed += 1
        if not (out / "current").exists():  # it did not come to reading
            raise RuntimeError(child.stderr.decode(errors="replace")[-2000:])
        how = f"exit status {child.returncode}"
        if child.returncode < 0:
            how = signal.Signals(-child.returncode).name
            how = "took too long" if how in ("SIGALRM", "SIGPROF") else how
        if how == KNOWN_ENDS.get(name):
            continue
        data = (out / "current").read_bytes()
        outcome.findings.append(keep(out, name, data, how))
    return outcome


def _in_memory() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def child(name: str, seconds: float, seed: int, out: Path, found: Targets) -> None:
    """Reads inputs until the time is over."""
    seeds, run = found[name]
    rng, outcome = random.Random(f"{name} {seed}"), Outcome()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)  # ends the process at any point
    current, until, kinds = out / "current", time.monotonic() + seconds, set()
    run(seeds[0])  # which must be good
    told = time.monotonic()
    while time.monotonic() < until:
        data = mutated(rng.choice(seeds), seeds, rng)
        current.write_bytes(data)
        outcome.inputs += 1
        signal.setitimer(signal.ITIMER_PROF, SECONDS_AN_INPUT)
        signal.alarm(3 * SECONDS_AN_INPUT)  # of waiting too; other programs may have the processor
        try:
            run(data)
            outcome.accepted += 1
        except ALLOWED:
            pass
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = (type(error).__name__, where.filename, where.lineno)
            if kind not in kinds:  # one of each is enough
                kinds.add(kind)
                text = f"{type(error).__name__}: {error}"
                outcome.findings.append(keep(out, name, data, text[:300], traceback.format_exc()))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        if time.monotonic() - told > 0.2:
            _tell(out, outcome)
            told = time.monotonic()
    _tell(out, outcome)


def _tell(out: Path, outcome: Outcome) -> None:
    work = out / "counts.partial"
    work.write_text(json.dumps(outcome.__dict__))
    work.replace(out / "counts.json")


def keep(out: Path, name: str, data: bytes, what: str, details: str = "") -> str:
    """Saves an input that found something; says what and where."""
    path = out / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    if details:
        path.with_name(path.name + ".txt").write_text(details)
    return f"{name}: {what} ({os.fspath(path)})"
