"""The guides and the page for people who come from other libraries: their code runs, their commands
have the options they show, and the site is built from them without the network."""

from __future__ import annotations

import importlib.util
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.processes import ROOT, python

DOCS = ROOT / "docs"
GUIDES = sorted((DOCS / "guides").glob("*.md"))
MIGRATE = (DOCS / "migrate.md").read_text(encoding="utf-8")
COMMANDS = [*GUIDES, DOCS / "scale.md", ROOT / "README.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
NEEDED = ("ray", "rdkit", "sklearn", "torch")  # by guides, beyond NumPy


def blocks(text: str) -> list[str]:
    """Its Python code, with lines numbered as in the page."""
    return ["\n" * text.count("\n", 0, found.start(1)) + found[1] for found in BLOCK.finditer(text)]


def run_blocks(codes: list[str], page: str, names: dict[str, Any]) -> None:
    for code in codes:
        exec(compile(code, page, "exec"), names)


def imported(code: str) -> set[str]:
    return set(re.findall(r"^(?:import|from) (\w+)", code, re.M))


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun tells the only process of a job."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in told.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_guide_code(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a page in order, but for Ray, which is tested apart."""
    codes = [code for code in blocks(page.read_text("utf-8")) if "ray" not in imported(code)]
    for name in sorted(set().union(*map(imported, codes)) & set(NEEDED)):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    assert codes
    run_blocks(codes, str(page), {})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's, of parts of its own
def test_guide_code_with_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.chdir(tmp_path)
    page = DOCS / "guides" / "clusters.md"
    (code,) = [code for code in blocks(page.read_text("utf-8")) if "ray" in imported(code)]
    run_blocks([code], str(page), {})


def test_guides_are_short() -> None:
    assert len(GUIDES) >= 9
    assert {
        page.name: lines for page in GUIDES if (lines := page.read_text("utf-8").count("\n")) > 120
    } == {}


def commands(text: str) -> list[tuple[str, str]]:
    """(command, the rest of its line) of every `entroselect` in blocks of shell."""
    shell = re.findall(r"^```bash\n(.*?)^```|^ {4}(.*?\n)(?! {4})", text, re.M | re.S)
    lines = re.sub(r" *\\\n", "", "".join(map("".join, shell)))
    return re.findall(r"^ *(?:torchrun .*-m )?entroselect ([a-z]+)\b(.*)$", lines, re.M)


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: page.name)
def test_commands_have_the_options_that_pages_show(page: Path) -> None:
    typer = pytest.importorskip("typer")
    from entroselect.cli.app import app

    there = typer.main.get_command(app).commands
    for name, rest in commands(page.read_text(encoding="utf-8")):
        options = {option for each in there[name].params for option in each.opts}
        shown = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest.split("#")[0]))
        assert shown <= options, f"{page.name}: entroselect {name}{rest}"


def test_commands_are_found_in_pages() -> None:
    """So that the test above looks at something."""
    found = [command for page in COMMANDS for command, _ in commands(page.read_text("utf-8"))]
    assert {"select", "deduplicate", "loop", "report", "info", "nearest"} <= set(found)


def parts() -> dict[str, list[str]]:
    """Heading -> code of the page for people who come from other libraries; "" is the pool."""
    code: dict[str, list[str]] = {}
    heading = ""
    for piece in re.split(r"(?m)^(?=## )", MIGRATE):
        heading = piece.splitlines()[0][3:] if piece.startswith("## ") else ""
        code[heading] = blocks(piece)
    return code


PARTS = parts()
THEIRS = {name: codes[0] for name, codes in PARTS.items() if codes and "theirs =" in codes[0]}


@pytest.mark.parametrize("name", [name for name in PARTS if name])
def test_our_side_of_the_migration_page(name: str) -> None:
    if name.startswith("anomalib") or name == "scikit-matter":
        pytest.importorskip("torch" if name.startswith("anomalib") else "sklearn")
    if name.startswith("scikit-activeml"):
        pytest.importorskip("skactiveml")
    codes = [code for code in PARTS[name] if code is not THEIRS.get(name)]
    names: dict[str, Any] = {}
    run_blocks([*PARTS[""], *codes], name, names)
    assert np.size(names["ours"]) >= 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the other libraries' own
@pytest.mark.parametrize("name", THEIRS)
def test_their_side_of_the_migration_page(name: str) -> None:
    """Of every library that is installed; put folders with others on PYTHONPATH."""
    from entroselect import greedy_select

    for needed in re.findall(r"^(?:import|from) ([\w.]+)", THEIRS[name], re.M):
        pytest.importorskip(needed, exc_type=ImportError)
    names: dict[str, Any] = {}
    run_blocks([*PARTS[""], *PARTS[name]], name, names)
    pool, theirs, ours = names["pool"], names["theirs"], names["ours"]
    if name == "NPEET":
        assert theirs == pytest.approx(float(ours), abs=1e-6)
    elif name == "apricot":
        radius = greedy_select(pool, 1, selected=theirs.tolist()).distances[0]
        assert ours.shape == theirs.shape
        assert greedy_select(pool, 1, selected=ours).distances[0] < radius
    elif name.startswith("anomalib"):
        rows = names["sampler"].features.numpy()
        assert greedy_select(rows, len(theirs), start=theirs[0]).indices.tolist() == theirs
        assert len(ours) == len(theirs)
    else:
        np.testing.assert_array_equal(np.asarray(theirs), ours)


def hook() -> Any:
    spec = importlib.util.spec_from_file_location("site_hook", DOCS / "site_hook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_out_of_the_documentation() -> None:
    text = (
        "[a](../a.py), [`b` [c]](x.md#y)\n```python\n[d](../d.py)\n```\n"
        "![e](../e.png) [f](../g/f.md#h)"
    )
    links = hook().links_that_work
    assert links(text, "page.md", "https://host/us") == text.replace(
        "[a](../a.py)", "[a](https://host/us/blob/main/a.py)"
    ).replace("[f](../g/f.md#h)", "[f](https://host/us/blob/main/g/f.md#h)")
    assert links("[a](../a.py), [b](../../b.py)", "guides/page.md", None) == "[a](../a.py), b"
    assert hook().repository('x = "y"\n[project.urls]\nRepository = "https://host/us/"') == (
        "https://host/us"
    )
    assert hook().repository("") is None


@pytest.mark.slow
def test_the_site_is_built_and_needs_no_network(tmp_path: Path) -> None:
    """Strictly: a broken link or anchor, or a page that is in no menu, ends with an error."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    environment = {"NO_MKDOCS_2_WARNING": "1"}
    site = tmp_path / "site"
    python("-m", "mkdocs", "build", "--site-dir", site, cwd=ROOT, environment=environment)
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert len(pages) > 20
    for path, text in pages.items():
        assert re.findall(r"<(?:script|img|iframe|link[^>]*stylesheet)[^>]*https?://", text) == []
        for target in re.findall(r"(?:href|src)=\"?([^\" >#?]+)", text):
            if "://" not in target and not target.startswith(("data:", "mailto:", "/")):
                assert (path.parent / target).exists(), f"{path.name}: {target}"
    api = pages[site / "api.html"]
    from entroselect import __all__ as names

    for name in names:
        assert f'id="entroselect.{name}"' in api, name
    assert ":::" not in api
    assert "cpu:&lt;instruction set&gt;" in api
    assert "<blockquote>" not in api  # what ">>>" outside code would be
