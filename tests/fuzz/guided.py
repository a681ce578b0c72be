"""`python -m tests.fuzz.guided TARGET [options of libFuzzer]`: as tests.fuzz, guided by which lines
of the readers an input reaches. Needs atheris (pip install atheris), which `make fuzz` does not."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import atheris  # type: ignore[import-not-found]

from tests.fuzz import driver


def main() -> None:
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["entroselect", "zarr"]):  # which are not imported yet
        seeds, run = driver.targets(driver.homes()[name])[name]
    corpus = Path("build/fuzz/guided", name)  # what it learns, for the next time
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    def one(data: bytes) -> None:
        with suppress(driver.ALLOWED):
            run(data)

    limits = [
        "-rss_limit_mb=6144",
        f"-timeout={driver.SECONDS_AN_INPUT}",
        f"-artifact_prefix={corpus.parent}/{name}-",
    ]
    atheris.Setup([sys.argv[0], *limits, *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
