"""The coreset sampler of PatchCore with the interface of anomalib's `KCenterGreedy`."""

from __future__ import annotations

from typing import Any

from entroselect import _checks
from entroselect.frames import take
from entroselect.greedy import greedy_select


class KCenterGreedy:
    """The most spread-out rows of an embedding, each the farthest from all before it.

    Takes the place of ``anomalib.models.components.KCenterGreedy``: same arguments, methods and
    number of rows. Distances are exact and of the embedding itself; anomalib compares random
    projections of the rows. The first pick is drawn, as in anomalib 2.7; before that, the drawn
    row was left out of the coreset.

    Args:
        embedding: (n, ...) torch tensor or array; more than two axes are flattened to rows.
        sampling_ratio: share of the rows, 0 < ratio < 1; rounded down, at least 1.
        seed: of the first pick; None: drawn anew each time.
        options: further arguments of `greedy_select`, such as `metric` or `memory_limit`.

    Raises:
        ValueError, TypeError: naming the argument.

    Complexity, memory: of `greedy_select`.

    Source: Sener and Savarese 2018; Roth et al. 2022 (PatchCore).

    Example:
        >>> import numpy as np
        >>> from entroselect.anomalib import KCenterGreedy
        >>> line = np.array([[0.0], [1.0], [2.0], [10.0]])
        >>> KCenterGreedy(line, 0.5, seed=1).select_coreset_idxs()
        [1, 3]
    """

    def __init__(
        self, embedding: Any, sampling_ratio: float, *, seed: int | None = None, **options: Any
    ) -> None:
        ratio = _checks.real("sampling_ratio", sampling_ratio, "in (0, 1)", lambda x: 0 < x < 1)
        if not hasattr(embedding, "reshape"):
            kind = type(embedding).__name__
            raise TypeError(f"embedding: expected a torch tensor or an array, got {kind}")
        if len(embedding.shape) < 2:
            raise ValueError(
                f"embedding: expected two axes or more, got shape {tuple(embedding.shape)}"
            )
        self.embedding, self.seed, self.options = embedding, _checks.seed_value(seed), options
        self.coreset_size = max(1, int(len(embedding) * ratio))

    def select_coreset_idxs(self, selected_idxs: list[int] | None = None) -> list[int]:
        """Row numbers in pick order, none of `selected_idxs`, which count as picked."""
        rows = self.embedding.reshape(len(self.embedding), -1)
        before = [] if selected_idxs is None else [int(row) for row in selected_idxs]
        rule: dict[str, Any] = {"start": "random", "seed": self.seed}
        if before:
            rule = {"selected": before}
        found = greedy_select(rows, self.coreset_size, **rule, **self.options)
        return [int(row) for row in found.indices]

    def sample_coreset(self, selected_idxs: list[int] | None = None) -> Any:
        """The rows of `select_coreset_idxs`, of the embedding's type and shape."""
        return take(self.embedding, self.select_coreset_idxs(selected_idxs))
