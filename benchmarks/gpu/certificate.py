"""How far scores of the filter pass err, against what its certificate allows (docs/exactness.md,
"On a GPU"): rows built to make sums lose digits, in every shape of tiles."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.gpu.common import Wrong, backend, row
from benchmarks.support import record
from entroselect.backends.cuda import Cuda, autotune
from entroselect.io.rows import Rows

WIDTHS = (768, 384, 64, 1536, 4096)


def certificate(seeds: int, device: str, seconds: float) -> Iterator[record.Row]:
    """A row for each shape of tiles, with the codes of the rows kept (the pass reads them by index)
    and not: the largest share of the allowed error that is reached. Each shape gets the first width
    at least, and the others while there is time.

    Raises:
        Wrong: a score errs by more, or a pair has none.
    """
    from tests.support.cuda_scores import hard_rows, measured

    cuda, began = backend(), time.perf_counter()
    held = cuda._hold(Rows(hard_rows(16)[0], "float16"), "euclidean")
    tiles = autotune.table(held.device) if cuda.tile is None else (cuda.tile,)
    for tile in tiles:
        one = Cuda(cuda.kernels, cuda.device, tile, cuda.limit)
        for kept in (True, False):
            case = f"error of scores, {tile}, by index: {kept}"
            most: dict[int, float] = {}
            for d in WIDTHS:
                if most and time.perf_counter() - began > seconds:
                    break
                shares = []
                for seed in range(seeds):
                    score, exact, allowed = measured(one, *hard_rows(d, seed), kept=kept)
                    shares.append(np.max(np.abs(score - exact) / allowed))  # NaN stays NaN
                most[d] = float(np.max(shares))
                if not most[d] <= 1:
                    raise Wrong(f"{case}: {most[d]} of the bound at d={d}")
            widths = ", ".join(f"{d}: {share:.3f}" for d, share in most.items())
            note = f"{max(most.values()):.3f} of the bound at most ({widths})"
            yield row(case, (8, max(most), 8), "entroselect", "ours", note=note)
