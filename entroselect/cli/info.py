"""`entroselect info`: what can run here, and why the rest cannot."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import Any

from packaging.requirements import Requirement
from rich.table import Table

from entroselect import _dispatch, _settings
from entroselect.backends import faiss as faiss_backend
from entroselect.cli.options import Json
from entroselect.cli.output import document, show
from entroselect.io.errors import printable

# The packages whose versions matter when answers are compared.
PACKAGES = (
    "numpy",
    "typer",
    "rich",
    "matplotlib",
    "jinja2",
    "safetensors",
    "pyarrow",
    "zarr",
    "scikit-learn",
    "torch",
    "triton",
    "faiss-cpu",
)


def info(
    as_json: Json = False,
) -> None:
    """Shows versions, backends, threads and extras."""
    known = gather()
    if as_json:
        document(known)
        return
    show(
        f"entroselect {known['version']}, Python {known['python']}, {known['machine']}\n"
        f"{known['threads']} threads (ENTROSELECT_THREADS changes that)\n"
        f"backend 'auto' means '{known['auto']}'"
    )
    show(_table("backend", known["backends"], "runs here"))
    show(_table("extra", known["extras"], "installed"))
    packages = Table("package", "version")
    for name, found in known["packages"].items():
        packages.add_row(name, found or "not installed")
    show(packages)


def gather() -> dict[str, Any]:
    """The contents of `info`."""
    return {
        "version": version("entroselect"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": _settings.threads(),
        "auto": _dispatch.name_of("auto"),
        "backends": {**_dispatch.why_not(), "reference": "", "faiss": faiss_backend.why_not()},
        "environment": _settings.of_the_engine(),
        "extras": extras(),
        "packages": {name: _installed(name) for name in PACKAGES},
    }


def extras() -> dict[str, str]:
    """For every extra: "" when its packages are installed, otherwise which are missing."""
    found = {}
    for extra in metadata("entroselect").get_all("Provides-Extra") or []:
        missing = [n for n in dict.fromkeys(_packages_of(extra)) if _installed(n) is None]
        found[extra] = "missing: " + ", ".join(missing) if missing else ""
    return found


def _packages_of(extra: str) -> list[str]:
    """The packages that the extra adds on this Python and platform."""
    names = []
    for requirement in map(Requirement, requires("entroselect") or []):
        marker = requirement.marker
        if marker is None or not marker.evaluate({"extra": extra}):
            continue
        if requirement.name == "entroselect":
            names += [name for inner in sorted(requirement.extras) for name in _packages_of(inner)]
        else:
            names.append(requirement.name)
    return names


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _table(what: str, reasons: dict[str, str], good: str) -> Table:
    table = Table(what, "")
    for name, reason in reasons.items():
        table.add_row(name, printable(reason) or good)
    return table
