"""Chosen rows of the caller's own data, and selections as tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from entroselect.results import Int64, Selection, on_host


def take(data: Any, rows: Any) -> Any:
    """The chosen rows of data of any kind, in pick order, as data of that kind.

    Args:
        data: n rows: a DataFrame or Series of pandas or polars, an Arrow Table, RecordBatch or
            array, a `datasets.Dataset`, a NumPy array, a torch tensor, what `open_pool` returns
            (which gives a NumPy array), or a list.
        rows: a `Selection`, or row numbers, (k,), 0 <= row < n; rows may repeat.

    Returns:
        k rows, of the type of `data`. A pandas index stays with its rows.

    Raises:
        TypeError: `data` is of no kind that has rows, or `rows` are no integers.
        IndexError: a row number is not in `data`.

    Complexity: the rows taken are copied.

    Example:
        >>> import numpy as np
        >>> from entroselect import greedy_select, take
        >>> names = ["a", "b", "c", "d"]
        >>> picked = greedy_select(np.array([[0.0], [1.0], [2.0], [10.0]]), 3)
        >>> take(names, picked)
        ['a', 'd', 'c']
    """
    size = _rows_of(data)
    places = _row_numbers(rows, size)
    if hasattr(data, "iloc"):  # pandas
        return data.iloc[places]
    if hasattr(data, "select") and hasattr(data, "features"):  # datasets
        return data.select(places)
    if hasattr(data, "n") and hasattr(data, "part"):  # open_pool
        ascending, back = np.unique(places, return_inverse=True)
        return data.take(ascending)[back]
    if hasattr(data, "index_select"):  # torch
        import torch

        return data[torch.as_tensor(places, device=data.device)]
    if hasattr(data, "to_pylist"):  # Arrow
        from entroselect.io.arrow import taken

        return taken(data, places)
    if isinstance(data, (list, tuple)):
        return type(data)(data[place] for place in places)
    if not hasattr(data, "shape"):
        raise TypeError(
            f"data: rows of a {type(data).__name__} are not taken; pass an array or list"
        )
    return data[places]


def to_arrow(selection: Selection) -> Any:
    """The table of `Selection.to_arrow`."""
    import pyarrow as pa

    return pa.table(_columns(selection))


def to_pandas(selection: Selection) -> Any:
    """The frame of `Selection.to_pandas`."""
    import pandas as pd

    return pd.DataFrame(_columns(selection))


def _columns(selection: Selection) -> dict[str, Any]:
    columns = {"row": on_host(selection.indices), "distance": on_host(selection.distances)}
    if selection.thresholds is not None:
        columns["threshold"] = on_host(selection.thresholds)
    return columns


def _rows_of(data: Any) -> int:
    if isinstance(data, (str, bytes, dict, set)):
        raise TypeError(f"data: a {type(data).__name__} has no rows; pass an array, frame or list")
    try:
        return int(data.n) if hasattr(data, "n") and hasattr(data, "part") else len(data)
    except TypeError:
        raise TypeError(f"data: a {type(data).__name__} has no rows") from None


def _row_numbers(rows: Any, n: int) -> Int64:
    places = on_host(rows.indices) if isinstance(rows, Selection) else np.asarray(rows)
    if places.ndim != 1 or (len(places) and places.dtype.kind not in "iu"):
        raise TypeError(
            f"rows: expected a Selection or integers of shape (k,), got {places.dtype} of shape "
            f"{places.shape}"
        )
    wrong = (places < 0) | (places >= n)
    if wrong.any():
        raise IndexError(f"rows: {int(places[wrong][0])} is not a row of data, which has {n}")
    return places.astype(np.int64)
