"""`python -m tests.fuzz [--target NAME] [--seconds N] [--seed S]`: exit status 1 if anything was
found. A saved input is read again with `--input FILE --target NAME`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz import driver


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", action="append", help="only this one (may be repeated)")
    parser.add_argument("--seconds", type=float, default=60, help="in all (default: 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="for what is found")
    parser.add_argument("--input", type=Path, help="read this file once, in this process")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--module", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        found = driver.targets(options.module)
        driver.child(options.child, options.seconds, options.seed, options.out, found)
        return 0
    homes = driver.homes()
    names = options.target or sorted(homes)
    for name in names:
        if name not in homes:
            parser.error(f"no target {name!r}; there are {', '.join(sorted(homes))}")
    if options.input:
        driver.targets(homes[names[0]])[names[0]][1](options.input.read_bytes())
        return 0
    findings: list[str] = []
    for name in names:
        began = time.monotonic()
        outcome = driver.fuzz(
            name, options.seconds / len(names), options.seed, options.out / name, homes[name]
        )
        seconds = time.monotonic() - began
        print(
            f"{name:20} {outcome.inputs:9} inputs {outcome.accepted:8} accepted "
            f"{len(outcome.findings):3} findings {seconds:7.1f} s",
            flush=True,
        )
        findings += outcome.findings
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
