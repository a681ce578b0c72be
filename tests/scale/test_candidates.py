"""At most so many candidates, and a cut that all others come after."""

from __future__ import annotations

import numpy as np
import pytest

from entroselect.scale.candidates import NO_ROW, Candidates


@pytest.mark.parametrize("capacity", [3, 4, 17, 200])
@pytest.mark.parametrize("values", [3, 10**6])  # many equal bounds, or none
def test_the_best_rows_stay_and_the_cut_parts_them_from_the_others(
    capacity: int, values: int
) -> None:
    rng = np.random.default_rng(capacity)
    rows = np.flatnonzero(rng.random(400) < 0.5)
    bounds = rng.integers(0, values, len(rows)).astype(np.float64)
    fresh = np.arange(0, len(rows), 3)  # whose bounds are known from the start
    held = Candidates(capacity, 2, np.dtype(np.float64))
    for _ in range(2):  # the second time as if nothing had been before
        held.begin(len(rows), rows[fresh], bounds[fresh])
        for part in np.array_split(np.arange(len(rows)), 7):
            tile = np.stack([rows[part], -rows[part]], axis=1).astype(np.float64)
            places = np.flatnonzero(bounds[part] >= held.cut[0])
            held.add(rows[part[places]], bounds[part[places]], tile, places)
        assert len(held.rows) <= capacity
        assert held.values.tolist() == [[row, -row] for row in held.rows]
        before = sorted(zip((-bounds).tolist(), rows.tolist(), strict=True))
        if capacity >= len(rows):
            assert held.cut == NO_ROW
            assert held.rows.tolist() == rows.tolist()
            continue
        place = before.index((-held.cut[0], held.cut[1]))
        assert place >= capacity // 2
        assert held.rows.tolist() == sorted(row for _, row in before[:place])
    held.clear()
    assert len(held.rows) == len(held.values) == 0
