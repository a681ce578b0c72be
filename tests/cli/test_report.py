"""The pages of `select --report` and the demo: self-contained, escaped, with fitting pictures."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from entroselect import greedy_select, kl_entropy
from entroselect.cli import demo
from entroselect.cli.app import app
from entroselect.report import figures
from entroselect.report.page import words as page_words
from entroselect.report.selection import left_out
from entroselect.report.spread import cover, rising_ranks, spread
from tests.support.processes import python

HEADING = re.compile(r"<h2>(.*?)</h2>")
PICTURE = re.compile(r'<img src="data:image/png;base64,([^"]+)"')


def page(tmp_path, pool, *arguments, name="pool.npy"):
    np.save(tmp_path / name, pool)
    given = [tmp_path / name, "-o", tmp_path / "out", "--report", *arguments]
    result = CliRunner().invoke(app, ["select", *map(str, given)])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return Path(tmp_path, "out", "report.html").read_text(encoding="utf-8")


def check_self_contained(html):
    """No address in it, every image inline and a PNG; returns how many there are."""
    assert not re.search(r"https?://", html)
    assert not re.search(r"<(script|link|iframe)", html)
    assert not re.search(r"url\(", html)
    found = PICTURE.findall(html)
    assert len(found) == html.count("<img ")
    for picture in found:
        assert base64.b64decode(picture).startswith(b"\x89PNG")
    return len(found)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["greedy", "threshold", "random"])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (3, 6, 5), (25,)])
def test_images_are_shown(tmp_path, method, shape):
    pool = np.random.default_rng(0).integers(0, 256, size=(40, *shape), dtype=np.uint8)
    html = page(tmp_path, pool, "-k", "15", "--method", method)
    assert check_self_contained(html) == 5
    assert HEADING.findall(html) == [
        f"Picked first ({method})",
        f"Left out, nearest to the selection ({method})",
        f"Left out, farthest from the selection ({method})",
        "Radius",
        "Distance to the nearest other row",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, 2, 25])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_features_are_scattered(tmp_path, columns, metric):
    pool = np.random.default_rng(0).normal(size=(40, columns))
    html = page(tmp_path, pool, "-k", "15", "--metric", metric)
    assert check_self_contained(html) == 3
    assert HEADING.findall(html)[0] == "Picked rows in the pool"


def test_directions_of_tiny_rows_are_scattered():
    rows = np.random.default_rng(0).normal(size=(40, 3))
    expected = figures.scatter(rows, rows[:9], "greedy", "cosine")
    tiny = rows * 2.0**-600  # their squares are 0
    assert figures.scatter(tiny, tiny[:9], "greedy", "cosine") == expected


@pytest.mark.slow
def test_whole_pool_picked_leaves_nothing_out(tmp_path):
    pool = np.random.default_rng(0).integers(0, 256, size=(12, 4, 4), dtype=np.uint8)
    html = page(tmp_path, pool, "-k", "12")
    assert check_self_contained(html) == 3
    assert "Left out" not in html


def test_without_entropy_no_histogram(tmp_path):
    html = page(tmp_path, np.random.default_rng(0).normal(size=(40, 3)), "-k", "5", "--no-entropy")
    assert "--no-entropy" in html
    assert "Distance to the nearest other row" not in html


def test_names_are_escaped(tmp_path):
    pool = np.random.default_rng(0).normal(size=(20, 3))
    html = page(tmp_path, pool, "-k", "5", name="<b>&pool.npy")
    assert "&lt;b&gt;&amp;pool.npy" in html
    assert "<b>" not in html


def test_what_counts_as_an_image():
    def shape(*stored, values=None):
        array = np.zeros(stored, dtype=np.uint8) if values is None else values
        return figures.image_shape(stored, array.reshape(len(array), -1))

    assert shape(9, 28, 28) == (28, 28)
    assert shape(9, 32, 32, 3) == (32, 32, 3)
    assert shape(9, 3, 32, 32) == (3, 32, 32)
    assert shape(9, 7, 8, 9) is None
    rng = np.random.default_rng(0)
    assert shape(9, 64, values=rng.integers(0, 17, size=(9, 64)) | 16) == (8, 8)
    assert shape(9, 64, values=rng.normal(size=(9, 64))) is None
    assert shape(9, 64, values=rng.integers(0, 2, size=(9, 64))) is None
    assert shape(9, 65, values=rng.integers(0, 17, size=(9, 65))) is None


def test_images_keep_their_brightness_and_orientation():
    pool = np.zeros((3, 2, 2, 3), dtype=np.uint8)
    pool[1, 0, 1] = (255, 0, 127)
    rows = pool.reshape(3, -1)
    shown = figures.Images(rows, (2, 2, 3))(np.array([1]))
    assert shown.shape == (1, 2, 2, 3)
    assert shown[0, 0, 1].tolist() == [1.0, 0.0, 127 / 255]
    channels_first = np.ascontiguousarray(np.moveaxis(pool, -1, 1)).reshape(3, -1)
    again = figures.Images(channels_first, (3, 2, 2))(np.array([1]))
    # (3, 2, 2) reads as channels first because no channel stands last
    assert np.array_equal(shown, again)


def test_cover_agrees_with_plain_distances():
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(50, 4))
    picks = rng.permutation(50)[:20]
    found = cover(pool, pool[picks], rising_ranks(1, 20), "euclidean", "auto")
    distances = np.linalg.norm(pool[:, None] - pool[picks][None], axis=2)
    for rank, radius in zip(found.ranks, found.radii, strict=True):
        assert radius == pytest.approx(distances[:, :rank].min(axis=1).max())
    assert found.ranks[-1] == 20
    assert found.distances == pytest.approx(distances.min(axis=1))
    assert found.nearest.tolist() == distances.argmin(axis=1).tolist()
    order = left_out(picks, found)
    assert sorted([*order, *picks]) == list(range(50))
    assert (np.diff(found.distances[order]) >= 0).all()


@pytest.mark.slow
def test_demo_prints_and_writes(tmp_path, capsys):
    out = tmp_path / "demo"
    out.mkdir()
    (out / "index.html").write_text("an earlier one of entroselect, to be replaced")
    demo.main(["--out", str(out)])
    assert list(tmp_path.iterdir()) == [out]
    assert [path.name for path in out.iterdir()] == ["index.html"]
    assert check_self_contained((out / "index.html").read_text(encoding="utf-8")) == 9
    printed = capsys.readouterr().out
    for word in ("whole pool", "greedy", "threshold", "random", "1,797", "898", "radius"):
        assert word in printed


def test_what_the_demo_says_of_the_digits():
    digits = demo.load()
    assert digits.shape == (1797, 64)
    picks = demo.choose(digits, 898)
    assert picks["greedy"].tolist() == greedy_select(digits, 898).indices.tolist()
    spreads = {name: demo.spread(digits[rows], "euclidean", "auto") for name, rows in picks.items()}
    entropy = {name: float(part.entropy) for name, part in spreads.items()}
    assert min(entropy["greedy"], entropy["threshold"]) > entropy["random"]
    nearest = {name: part.distances.min() for name, part in spreads.items()}
    assert min(nearest["greedy"], nearest["threshold"]) > 1.5 * nearest["random"]


@pytest.mark.slow
def test_demo_with_a_bad_out_is_a_plain_line(tmp_path):
    done = python("-m", "entroselect.cli.demo", "--out", tmp_path / "no" / "out", code=1)
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("label", ["runs/$a$/$b", "$\\frac$", "a$", r"\$x\$", "$$"])
def test_dollars_in_a_path_are_no_mathematics(label):
    figure = Figure()
    axes = figure.add_subplot()
    axes.set_title(figures.plain(label))
    axes.plot([0, 1], label=figures.plain(label))
    axes.legend()
    assert figures.data_uri(figure).startswith("data:image/png")
    for text in (axes.title, axes.get_legend().texts[0]):
        shown, mathematics = text._preprocess_math(text.get_text())
        assert (shown, mathematics) == (label, False)


def test_a_page_explains_the_words_it_uses_and_no_others():
    words = page_words("No digit is farther than that: the radius. Threshold and random; arms.")
    assert list(words) == ["radius", "threshold", "arm"]
    assert page_words("harm, warmth, G_nn, thresholds-to-be")["threshold"]
    assert "arm" not in page_words("harm, warmth, G_nn")


@pytest.mark.slow
def test_the_demo_reads_its_own_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    demo.main(["--out", str(tmp_path / "demo")])
    printed = capsys.readouterr().out
    assert all(len(line) <= 80 for line in printed.splitlines())
    told = "14.3 nats more entropy than the random half"
    assert told in " ".join(printed.split())
    html = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    assert told in html
    assert "Words on this page" in html
    assert html.count('<div class="wide"') == html.count("<table>") + html.count("<img ")


def test_a_spread_where_one_metric_sees_only_copies():
    """Tiny rows have Euclidean distances of 0 and parallel ones cosine distances of 0."""
    tiny = np.random.default_rng(0).standard_normal((8, 3)) * 1e-300
    found = spread(tiny, "cosine", "auto")
    assert found.entropy is None
    assert found.distances.min() > 0
    parallel = np.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    found = spread(parallel, "cosine", "auto")
    assert not found.distances.any()
    assert float(found.entropy) == kl_entropy(parallel)
