"""`take` on every kind of data, and selections as tables, pictures and HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, kl_entropy, nearest_distances, take, threshold_select
from entroselect.io import open_pool

ROWS = np.random.default_rng(0).normal(size=(40, 3))
PLACES = [31, 0, 7, 12]


def kinds(tmp_path: Path) -> dict[str, Any]:
    datasets, pandas, polars, torch, arrow = (
        pytest.importorskip(name) for name in ("datasets", "pandas", "polars", "torch", "pyarrow")
    )
    np.save(tmp_path / "rows.npy", ROWS)
    first = ROWS[:, 0]
    return {
        "array": ROWS,
        "list": first.tolist(),
        "tuple": tuple(first.tolist()),
        "pandas": pandas.DataFrame(ROWS, index=[f"id{row}" for row in range(40)]),
        "pandas column": pandas.Series(first),
        "polars": polars.DataFrame({"x": first}),
        "polars column": polars.Series(first),
        "table": arrow.table({"x": first}),
        "batch": arrow.record_batch({"x": first}),
        "arrow": arrow.array(first),
        "chunks": arrow.chunked_array([first[:20], first[20:]]),
        "dataset": datasets.Dataset.from_dict({"x": first}),
        "tensor": torch.from_numpy(ROWS),
        "open_pool": open_pool(tmp_path / "rows.npy"),
    }


def plain(name: str, data: Any) -> Any:
    if name == "dataset":
        data = data["x"][:]
    if name == "table":
        data = data["x"].combine_chunks()
    if name == "batch":
        data = data["x"]
    return np.asarray(data, dtype=np.float64).reshape(len(PLACES), -1)


def test_rows_of_every_kind_of_data(tmp_path: Path) -> None:
    for name, data in kinds(tmp_path).items():
        found = take(data, PLACES)
        assert len(take(data, [3, 1, 3])) == 3, name
        wanted = ROWS[PLACES][:, : plain(name, found).shape[1]]
        np.testing.assert_array_equal(plain(name, found), wanted, err_msg=name)
        assert isinstance(found, type(data)) or name == "open_pool", name
    assert list(take(kinds(tmp_path)["pandas"], PLACES).index) == ["id31", "id0", "id7", "id12"]
    picked = greedy_select(ROWS, 4)
    np.testing.assert_array_equal(take(ROWS, picked), ROWS[picked.indices])
    assert take([1, 2], []) == []


@pytest.mark.parametrize(
    ("data", "rows", "error", "message"),
    [
        ("text", [0], TypeError, "data: a str has no rows"),
        ({"x": [1]}, [0], TypeError, "data: a dict has no rows"),
        (3, [0], TypeError, "data: a int has no rows"),
        (range(3), [0], TypeError, "data: rows of a range are not taken"),
        ([1, 2], [2], IndexError, "rows: 2 is not a row of data, which has 2"),
        ([1, 2], [-1], IndexError, "rows: -1 is not a row of data"),
        ([1, 2], [0.5], TypeError, "rows: expected a Selection or integers"),
        ([1, 2], [[0]], TypeError, r"of shape \(1, 1\)"),
        ([1, 2], [True, False], TypeError, "rows: expected a Selection or integers"),
    ],
)
def test_bad_use_is_named(data: Any, rows: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        take(data, rows)


def test_selections_as_tables() -> None:
    picked = threshold_select(ROWS, 5)
    frame, table = picked.to_pandas(), picked.to_arrow()
    assert list(frame.columns) == table.column_names == ["row", "distance", "threshold"]
    np.testing.assert_array_equal(frame["row"], picked.indices)
    np.testing.assert_array_equal(table["threshold"], picked.thresholds)
    assert greedy_select(ROWS, 5).to_arrow().column_names == ["row", "distance"]


def test_results_in_a_notebook() -> None:
    picked = greedy_select(ROWS, 20)
    html = picked._repr_html_()
    assert html.count("<tr>") == 9  # a head and eight picks
    assert f"<td>{picked[1]}</td>" in html
    assert "... and 12 more" in html
    assert f"{picked.radius:.6g}" in html
    groups = [f"<{row % 9}>" for row in range(40)]
    assert "of each group: &lt;0&gt;: 5, " in greedy_select(ROWS, 40, groups=groups)._repr_html_()
    assert "&lt;7&gt;: 4 ... and 1 more" in greedy_select(ROWS, 40, groups=groups)._repr_html_()
    found = nearest_distances(ROWS[:3], ROWS[3:], 2)
    assert f"<td>{found.indices[0, 0]}</td>" in found._repr_html_()
    assert "40" in kl_entropy(ROWS)._repr_html_()


def test_the_picture_of_a_selection() -> None:
    picked = greedy_select(ROWS, 20)
    figure = picked.plot()
    assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook asks for
    (curve,) = figure.axes
    np.testing.assert_array_equal(curve.lines[0].get_ydata(), picked.distances[1:])
    for features in (ROWS, open_pool(ROWS)):
        _, points = picked.plot(features).axes
        assert [len(part.get_offsets()) for part in points.collections] == [40, 20]
    torch = pytest.importorskip("torch")
    _, points = picked.plot(torch.from_numpy(ROWS).bfloat16()).axes
    assert 1 < np.abs(points.collections[0].get_offsets()).max() < 10
    nothing = threshold_select(ROWS, selected=ROWS, threshold=0, decay=None)
    for few in (nothing, greedy_select(ROWS, 1)):  # no distance to draw
        few.plot(ROWS)
        assert f"{len(few)} picks" in few._repr_html_()
    for features, metric, said in (
        (ROWS[:, 0], "euclidean", "features: expected a 2-D array"),
        (ROWS * np.nan, "euclidean", "features: values must be finite"),
        (ROWS[:5], "euclidean", "selection: index .* is outside the pool"),
        (ROWS, "l1", "metric: expected one of"),
    ):
        with pytest.raises(ValueError, match=said):
            picked.plot(features, metric=metric)
