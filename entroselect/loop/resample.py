"""A generator without a network: it copies training rows and moves the copies.

The model that memorises, as theory has it. How far a copy moves decides whether a selection for
diversity helps: copies that stay between their originals do no harm, and farthest-first keeps them
apart; copies moved as far as the next row are errors, and farthest-first picks those.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import nearest_distances


class Resample:
    """Copies of training rows, each moved at random.

    With `towards` = 0 a copy moves in a random direction: Gaussian noise whose root mean square
    length is `share` of the typical (median) nearest distance of the training rows. Otherwise it
    moves towards one of its `towards` nearest rows, by a uniform part of the way up to `share`.

    Args:
        share: h, at least 0.
        towards: how many nearest rows there are to move towards, 0 or more.

    Complexity: fitting finds nearest rows, exactly; a sample costs one row.

    Example:
        >>> import numpy as np
        >>> from entroselect.loop.resample import Resample
        >>> copies = Resample(share=0.0)
        >>> copies.fit(np.arange(6, dtype=np.float32).reshape(3, 2), seed=0)
        >>> copies.sample(4, seed=0).shape
        (4, 2)
    """

    def __init__(self, share: float = 0.25, towards: int = 0) -> None:
        self.share, self.towards = share, towards

    def fit(self, images: NDArray[Any], *, seed: int, checkpoint: Path | None = None) -> None:
        """Keeps the rows, (n, ...) of any real dtype, and finds what is near each."""
        self.images = images
        self.rows = images.reshape(len(images), -1).astype(np.float64)
        self.near = nearest_distances(self.rows, k=max(1, min(self.towards, len(images) - 1)))

    def sample(self, n: int, *, seed: int, labels: Any = None) -> NDArray[Any]:
        """n copies of the shape and dtype of the training rows; integers rounded and clipped."""
        draw = np.random.default_rng(seed)
        drawn = draw.integers(len(self.rows), size=n)
        made = self.rows[drawn]
        if self.towards:
            places = draw.integers(self.near.indices.shape[1], size=n)
            way = self.share * draw.random((n, 1))
            made += way * (self.rows[self.near.indices[drawn, places]] - made)
        else:
            typical = float(np.median(self.near.distances[:, 0]))
            each = self.share * typical / np.sqrt(made.shape[1])
            made += each * draw.standard_normal(made.shape)
        dtype = self.images.dtype
        if dtype.kind in "iu":
            made = made.round().clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
        return made.astype(dtype).reshape(n, *self.images.shape[1:])
