"""Selections as scikit-learn estimators: rows are chosen by `fit`, and by `fit_resample` together
with their targets, as imbalanced-learn's samplers do."""

from __future__ import annotations

from typing import Any

import numpy as np

from entroselect._quotas import group_numbers
from entroselect.frames import take
from entroselect.greedy import greedy_select
from entroselect.io.convert import decoded
from entroselect.results import AnyMetric, Selection
from entroselect.threshold import threshold_select

try:
    from sklearn.base import BaseEstimator
    from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
    from sklearn.utils.validation import validate_data
except ImportError as error:
    raise ImportError(
        "entroselect.sklearn needs scikit-learn 1.6 or newer: pip install 'entroselect[sklearn]'"
    ) from error


class _Selector(BaseEstimator):  # type: ignore[misc]
    """What both have in common; `_select` is theirs."""

    quotas: Any

    def fit(self, X: Any, y: Any = None) -> Any:
        """Chooses rows of X, (n, d); y, (n,), is looked at with `quotas` only. Sets the attributes;
        returns self."""
        rows = validate_data(self, X, dtype=[np.float64, np.float32, np.float16, np.uint8])
        among: dict[str, Any] = {}
        if self.quotas is not None:
            among = {"groups": _classes(y, rows), "quotas": self.quotas}
        found = self._select(rows, among)
        self.counts_ = found.counts
        self.sample_indices_ = found.indices
        self.distances_ = found.distances
        self.radius_ = found.radius
        return self

    def fit_resample(self, X: Any, y: Any = None) -> Any:
        """The chosen rows of X in pick order, of X's type, and with y, (n,), theirs: (X, y)."""
        check_consistent_length(X, y)
        self.fit(X, y)
        rows = take(X, self.sample_indices_)
        return rows if y is None else (rows, take(y, self.sample_indices_))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.quotas is not None
        return tags

    def _select(self, rows: Any, among: dict[str, Any]) -> Selection:
        raise NotImplementedError

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))


def _classes(y: Any, rows: Any) -> Any:
    """The labels in y as groups.

    Raises:
        ValueError, TypeError: naming y.
    """
    if y is None:
        raise ValueError("y: quotas requires y to be passed, but the target y is None")
    check_consistent_length(rows, y)
    labels = column_or_1d(decoded(y))
    if labels.dtype.kind == "f" and (np.isfinite(labels) & (labels == np.floor(labels))).all():
        return labels.astype(np.int64)  # scikit-learn's own data sets have classes in floats
    try:
        group_numbers(labels, len(labels))
    except (ValueError, TypeError) as error:
        raise type(error)(str(error).replace("groups:", "y:", 1)) from None
    return labels


class FarthestFirst(_Selector):
    """`greedy_select` as an estimator: each pick is the farthest from all before it.

    Args:
        k: how many rows, or a share of them, 0 < k < 1.
        start: the first pick: a row, "center", "farthest-from-center" or "random".
        random_state: for start="random": None, an integer or a RandomState.
        metric: as in `greedy_select`.
        min_distance: stop early, when the next pick would be closer than this.
        quotas: how many rows of each class in y: None (y is not looked at), "equal",
            "proportional" or a mapping of label to at most that many, as in `greedy_select`.
        backend, memory_limit: as in `greedy_select`.

    Attributes:
        sample_indices_: int64 (k,); rows in pick order.
        distances_: float64 (k,); distance of each pick to all before it.
        radius_: the largest distance of any row to the picks.
        counts_: with quotas, how many rows of each class, by label; else None.
        n_features_in_: columns.

    Example:
        >>> import numpy as np
        >>> from entroselect.sklearn import FarthestFirst
        >>> line, classes = np.array([[0.0], [1.0], [2.0], [10.0]]), ["a", "b", "c", "d"]
        >>> FarthestFirst(k=0.5).fit(line).sample_indices_.tolist()
        [0, 3]
        >>> FarthestFirst(k=3).fit_resample(line, classes)[1]
        ['a', 'd', 'c']
        >>> FarthestFirst(k=2, quotas="equal").fit(line, [0, 1, 1, 0]).sample_indices_.tolist()
        [0, 2]
    """

    def __init__(
        self,
        k: int | float = 0.1,
        *,
        start: int | str = 0,
        random_state: Any = None,
        metric: AnyMetric = "euclidean",
        min_distance: float | None = None,
        quotas: Any = None,
        backend: str = "auto",
        memory_limit: int | str | None = None,
    ) -> None:
        self.k = k
        self.start = start
        self.random_state = random_state
        self.metric = metric
        self.min_distance = min_distance
        self.quotas = quotas
        self.backend = backend
        self.memory_limit = memory_limit

    def _select(self, rows: Any, among: dict[str, Any]) -> Selection:
        return greedy_select(
            rows, self.k, start=self.start, seed=self._seed() if self.start == "random" else None,
            metric=self.metric, min_distance=self.min_distance, backend=self.backend,
            memory_limit=self.memory_limit, **among,
        )  # fmt: skip


class ThresholdFilter(_Selector):
    """`threshold_select` as an estimator: a row is accepted if it is farther than a threshold from
    all accepted before; the threshold decays until k rows are accepted.

    Args:
        k: how many rows, or a share of them, 0 < k < 1.
        threshold, decay: as in `threshold_select`; ``decay=None`` makes one pass at `threshold`.
        shuffle: rows are looked at in an order drawn with `random_state`; else as they come.
        random_state: None, an integer or a RandomState.
        metric, backend, memory_limit: as in `threshold_select`.
        quotas: as in `FarthestFirst`.

    Attributes:
        sample_indices_, distances_, radius_, counts_, n_features_in_: as in `FarthestFirst`.

    Example:
        >>> import numpy as np
        >>> from entroselect.sklearn import ThresholdFilter
        >>> line = np.array([[0.0], [1.0], [2.0], [10.0]])
        >>> ThresholdFilter(k=None, threshold=1.5, decay=None).fit(line).sample_indices_.tolist()
        [0, 2, 3]
    """

    def __init__(
        self,
        k: int | float | None = 0.1,
        *,
        threshold: float | None = None,
        decay: float | None = 0.95,
        shuffle: bool = False,
        random_state: Any = None,
        metric: AnyMetric = "euclidean",
        quotas: Any = None,
        backend: str = "auto",
        memory_limit: int | str | None = None,
    ) -> None:
        self.k = k
        self.threshold = threshold
        self.decay = decay
        self.shuffle = shuffle
        self.random_state = random_state
        self.metric = metric
        self.quotas = quotas
        self.backend = backend
        self.memory_limit = memory_limit

    def _select(self, rows: Any, among: dict[str, Any]) -> Selection:
        return threshold_select(
            rows, self.k, threshold=self.threshold, decay=self.decay,
            seed=self._seed() if self.shuffle else None, metric=self.metric,
            backend=self.backend, memory_limit=self.memory_limit, **among,
        )  # fmt: skip
