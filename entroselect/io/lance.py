"""Lance datasets: columns of vectors on disk, of which single rows can be read."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from entroselect.io.arrow import dense
from entroselect.io.datasets import HuggingFaceDataset
from entroselect.io.errors import reading, shown
from entroselect.io.source import PIECE
from entroselect.results import Int64

# What Lance reads ahead and keeps: 73 MiB were seen beside rows of 10 MiB.
_OVERHEAD = 96 << 20

VERSIONS = "_versions"  # the folder that every Lance dataset has


class _Columns:
    """A dataset with the part of `datasets.Dataset` that `HuggingFaceDataset` asks for."""

    def __init__(self, dataset: Any, name: str, names: list[str] | None = None) -> None:
        self._dataset = dataset
        self._name = name
        self._names = names
        with reading(name):
            self._rows = int(dataset.count_rows())

    def __len__(self) -> int:
        return self._rows

    def with_format(self, _: str) -> _Columns:
        return self

    def select_columns(self, names: list[str]) -> _Columns:
        return _Columns(self._dataset, self._name, names)

    def __getitem__(self, rows: Any) -> Any:
        with reading(self._name):
            if isinstance(rows, slice):
                start, stop, _ = rows.indices(len(self))
                return self._dataset.to_table(self._names, offset=start, limit=stop - start)
            return self._dataset.take(rows, columns=self._names)


class LanceDataset(HuggingFaceDataset):
    """A column of a Lance dataset, in the version that was opened: what is written later is another
    version, which is not read."""

    def __init__(self, dataset: Any, column: str | None, id_column: str | None, name: str) -> None:
        super().__init__(_Columns(dataset, name), column, id_column, name, "lance")
        self.overhead = _OVERHEAD

    def _gather(self, rows: Int64, values: NDArray[Any]) -> None:
        step = max(1, PIECE // self.row_bytes)
        for begin in range(0, len(rows), step):
            part = rows[begin : begin + step]
            table = self._table[part.tolist()]
            vectors = table.column(self.column).combine_chunks()
            values[begin : begin + step] = dense(vectors, self.name, int(part[0]), self.d)
            self._count(part.size * self.row_bytes)


def is_lance(given: Any) -> bool:
    """Whether an object is a dataset of the library."""
    return type(given).__module__.partition(".")[0] == "lance" and hasattr(given, "count_rows")


def open_lance(path: Any, column: str | None, id_column: str | None) -> LanceDataset:
    """The dataset in a folder.

    Raises:
        ValueError: naming the folder: the library is missing, or as for a parquet file's columns.
    """
    name = shown(path)
    try:
        import lance
    except ImportError:
        raise ValueError(
            f"{name}: reading it needs pylance: pip install 'entroselect[lance]'"
        ) from None
    with reading(path):
        dataset = lance.dataset(str(path))
    return LanceDataset(dataset, column, id_column, name)
