"""Farthest-first selection as a query strategy of scikit-activeml."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.greedy import greedy_select
from entroselect.nearest import nearest_distances
from entroselect.results import Int64, Metric

try:
    from skactiveml.base import SingleAnnotatorPoolQueryStrategy
    from skactiveml.utils import MISSING_LABEL, labeled_indices
except ImportError as error:
    raise ImportError(
        "entroselect.skactiveml needs scikit-activeml: pip install scikit-activeml"
    ) from error


class FarthestFirst(SingleAnnotatorPoolQueryStrategy):  # type: ignore[misc]
    """`greedy_select` as a query strategy: asks for the labels of the rows that are farthest from
    all labelled ones, each also far from those before it in the batch.

    Takes the place of ``skactiveml.pool.CoreSet``: same arguments and answers, but for equal
    distances, of which CoreSet takes a random one and this the row that comes first, and for
    distances that CoreSet rounds to the same number. Cosine distances here are those of the rows at
    length 1, the roots of twice CoreSet's. Without a labelled row the first pick is drawn with
    `random_state`.

    Args:
        metric: "euclidean" or "cosine".
        backend, memory_limit: as in `greedy_select`.
        missing_label, random_state: as in all strategies of scikit-activeml.

    Complexity, memory: of `greedy_select`; with ``return_utilities=True`` also batch_size n d.

    Source: Sener and Savarese 2018, Active Learning for Convolutional Neural Networks: A Core-Set
    Approach.

    Example:
        >>> import numpy as np
        >>> from entroselect.skactiveml import FarthestFirst
        >>> line = np.array([[0.0], [1.0], [2.0], [10.0]])
        >>> FarthestFirst().query(line, [0, np.nan, np.nan, np.nan], batch_size=2).tolist()
        [3, 2]
    """

    def __init__(
        self,
        metric: Metric = "euclidean",
        backend: str = "auto",
        memory_limit: int | str | None = None,
        missing_label: Any = MISSING_LABEL,
        random_state: Any = None,
    ) -> None:
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.metric = metric
        self.backend = backend
        self.memory_limit = memory_limit

    def query(
        self,
        X: Any,
        y: Any,
        candidates: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Any:
        """The rows whose labels are to be asked for.

        Args:
            X: (n, ...) all rows; more than two axes are flattened.
            y: (n,) their labels, `missing_label` where a row has none.
            candidates: None: all rows without a label; or row numbers, (m,); or rows that need not
                be in X, (m, ...).
            batch_size: how many; at most all candidates.
            return_utilities: also return the distances.

        Returns:
            int64 (batch_size,), rows of X, or of `candidates` where these are rows; with
            `return_utilities` also float64 (batch_size, n), or (batch_size, m): the distance of
            each candidate to all labelled rows and the picks before; 0 if there are none, NaN of
            rows that cannot be asked for (any more).

        Raises:
            ValueError, TypeError: naming the argument.
        """
        X, y, candidates, batch_size, return_utilities = self._validate_data(
            X, y, candidates, batch_size, return_utilities, reset=True,
            check_X_dict={"allow_nd": True},
        )  # fmt: skip
        pool, places = self._transform_candidates(candidates, X, y)
        labelled = labeled_indices(y, missing_label=self.missing_label_)
        before = _flat(X)[labelled]
        among: dict[str, Any] = {"selected": before}
        if places is not None:
            pool, among = X, {"selected": labelled, "candidates": places}
        if not len(labelled):
            seed = int(self.random_state_.randint(2**31 - 1))
            among |= {"selected": None, "start": "random", "seed": seed}
        rows = _flat(pool)
        found = greedy_select(
            rows, batch_size, **among, metric=self.metric, backend=self.backend,
            memory_limit=self.memory_limit,
        )  # fmt: skip
        if not return_utilities:
            return found.indices
        may = np.arange(len(rows)) if places is None else np.setdiff1d(places, labelled)
        return found.indices, self._utilities(rows, may, before, found.indices)

    def _utilities(self, rows: Any, may: Int64, before: Any, picks: Int64) -> NDArray[np.float64]:
        """The distances ahead of each pick of the rows that may be picked to those before it."""

        def to(points: Any) -> NDArray[np.float64]:
            found = nearest_distances(rows[may], points, metric=self.metric, backend=self.backend)
            distances: NDArray[np.float64] = found.distances[:, 0]
            return distances

        utilities = np.full((len(picks), len(rows)), np.nan)
        nearest = to(before) if len(before) else np.zeros(len(may))
        for place, pick in enumerate(picks):
            utilities[place, may] = nearest
            utilities[place, picks[:place]] = np.nan
            first = place == 0 and not len(before)
            nearest = to(rows[[pick]]) if first else np.minimum(nearest, to(rows[[pick]]))
        return utilities


def _flat(rows: Any) -> Any:
    return rows.reshape(len(rows), -1)
