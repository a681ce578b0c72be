"""The C++ core; see csrc/module.cpp and, for the primitives, entroselect/engine.py."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.results import Float64, Int64

TREE_WIDTH: int  # columns of the widest rows that a k-d tree takes

class FloatEnvironment:
    def __init__(self) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...

class Pool:
    n: int
    d: int
    count: int
    available: int
    def __init__(
        self,
        values: NDArray[Any],
        dtype: str,
        cosine: bool,
        isa: str,
        filter: str,
        cells: str,
        threads: int,
    ) -> None: ...
    def add_picks(self, rows: Int64) -> None: ...
    def add_vectors(self, values: NDArray[Any], dtype: str) -> None: ...
    def exclude(self, rows: Int64) -> None: ...
    def bounds(self, rows: Int64) -> Float64: ...
    def put_back(self, rows: Int64, bounds: Float64) -> None: ...
    def limit_groups(self, groups: NDArray[np.int32], left: Int64) -> None: ...
    def weigh(self, weights: Float64) -> None: ...
    def state(self) -> tuple[Float64, Int64]: ...
    def restart(self, bounds: Float64, met: Int64) -> None: ...
    def refresh(self, rows: Int64 | None = None, enough: float = 0.0) -> None: ...
    def frontier(self, size: int) -> tuple[Int64, float, int]: ...
    def settle(
        self, rows: Int64, rival: float, rival_index: int, limit: int, floor: float
    ) -> tuple[Int64, Float64, float]: ...
    def next_in_order(
        self, order: Int64, start: int, size: int, floor: float
    ) -> tuple[Int64, int]: ...
    def settle_in_order(self, rows: Int64, limit: int, floor: float) -> tuple[Int64, Float64]: ...
    def widest(self) -> float: ...
    def profile(self) -> dict[str, Any]: ...

class CodePool:
    coded: int
    pairs: int
    def __init__(
        self, sample: NDArray[Any], dtype: str, cosine: bool, isa: str, n: int, threads: int
    ) -> None: ...
    def code(self, values: NDArray[Any], dtype: str) -> None: ...
    def add_picks(self, values: NDArray[Any], dtype: str) -> None: ...
    def restart(self) -> None: ...
    def refresh(
        self, rows: Int64, enough: float, bounds: Float64, weights: Float64 | None = None
    ) -> None: ...
    def meet(self, rows: Int64) -> None: ...

def code_pool_bytes(d: int, isa: str) -> tuple[int, int]: ...  # of a row, and of a pick

class Exchange:
    def __init__(
        self,
        values: NDArray[Any],
        dtype: str,
        cosine: bool,
        isa: str,
        threads: int,
        attraction: Int64,
        k: int,
        per: float,
        weight: float,
        scale_squared: float,
        floor: float,
        graph_squared: Float64,
        graph_rows: NDArray[np.int32],
        progress: Callable[[int], None] | None,
    ) -> None: ...
    def begin(self, rows: Int64 | None) -> None: ...
    def run(self, most: int) -> int: ...
    def members(self) -> tuple[Int64, Int64]: ...
    def nearest(self) -> Float64: ...

def nearest(
    queries: NDArray[Any],
    query_dtype: str,
    points: NDArray[Any],
    point_dtype: str,
    same: bool,
    k: int,
    cosine: bool,
    isa: str,
    filter: str,
    threads: int,
    progress: Callable[[int, int], None] | None,
    squared: Float64 | None = None,
    indices: Int64 | None = None,
    offset: int = 0,
) -> tuple[Float64, Int64]: ...
def within(
    queries: NDArray[Any],
    query_dtype: str,
    points: NDArray[Any],
    point_dtype: str,
    same: bool,
    limit: float,
    cosine: bool,
    isa: str,
    filter: str,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Int64, Int64, Float64]: ...
def batch_first_unusable(
    values: NDArray[Any], dtype: str, lengths: Int64, largest: float, threads: int
) -> int: ...
def batch_centers(
    values: NDArray[Any], dtype: str, lengths: Int64, farthest: bool, isa: str, threads: int
) -> Int64: ...
def batch_greedy(
    values: NDArray[Any],
    dtype: str,
    lengths: Int64,
    starts: Int64,
    k: int,
    isa: str,
    threads: int,
) -> tuple[Int64, Float64, Float64]: ...
def nearest_among(
    queries: NDArray[Any],
    query_dtype: str,
    points: NDArray[Any],
    point_dtype: str,
    same: bool,
    candidates: Int64,
    k: int,
    cosine: bool,
    threads: int,
) -> tuple[Float64, Int64]: ...
def filter_intervals(
    queries: NDArray[Any],
    query_dtype: str,
    points: NDArray[Any],
    point_dtype: str,
    isa: str,
    filter: str,
) -> tuple[Float64, Float64]: ...
def first_unusable_row(values: NDArray[Any], dtype: str, largest: float, threads: int) -> int: ...
def first_zero_row(values: NDArray[Any], dtype: str, threads: int) -> int: ...
def frontier(bounds: Float64, size: int, threads: int) -> tuple[Int64, float, int]: ...
def add_rows(
    values: NDArray[Any], dtype: str, cosine: bool, sum: Float64, threads: int
) -> None: ...
def distances_to(
    values: NDArray[Any], dtype: str, vector: Float64, cosine: bool, threads: int
) -> Float64: ...
def add_distances(
    values: NDArray[Any],
    dtype: str,
    points: NDArray[Any],
    point_dtype: str,
    cosine: bool,
    isa: str,
    threads: int,
    totals: Float64,
) -> None: ...
def canonical_log(values: Float64) -> Float64: ...
def exchange_bytes_per_row() -> int: ...
def instruction_sets() -> list[tuple[str, str]]: ...

# Bytes that rows take at most beside their values: a row of a pool; of a pool that may be a tree;
# one of the points of a search for the nearest; a query; in addition a row that is both, point and
# query, with k = 1 and no other rows; and the search itself, once.
def pool_bytes_per_row(d: int) -> int: ...
def whole_pool_bytes_per_row(d: int) -> int: ...
def point_bytes_per_row(d: int, cosine: bool) -> int: ...
def query_bytes_per_row(cosine: bool) -> int: ...
def pair_bytes_per_row(d: int) -> int: ...
def search_bytes(d: int, k: int, threads: int) -> int: ...
def from_dlpack(capsule: object, name: str) -> tuple[NDArray[Any], str]: ...
