"""The loop's metrics at ties, copies, offsets and small sets, against fractions and other code."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

from entroselect.io.rows import Rows  # noqa: E402
from entroselect.loop import metrics  # noqa: E402
from tests.conftest import NO_GPU  # noqa: E402
from tests.support.feature_sets import FAR, rng, whole  # noqa: E402

# precision, recall, density, coverage


def fractions_manifold(real: Any, made: Any, k: int) -> dict[str, Fraction]:
    """The definitions of `manifold`, word for word, over whole numbers."""

    def squared(x: Any, y: Any) -> int:
        return sum((int(a) - int(b)) ** 2 for a, b in zip(x, y, strict=True))

    def reach(rows: Any) -> list[int]:
        return [
            sorted(squared(x, y) for j, y in enumerate(rows) if j != i)[k - 1]
            for i, x in enumerate(rows)
        ]

    n, m = len(real), len(made)
    real_reach, made_reach = reach(real), reach(made)
    d = [[squared(x, y) for y in made] for x in real]
    density = Fraction(0)
    for i in range(n):
        own = [squared(real[i], y) for y in real]
        at_edge = Fraction(k - sum(x < real_reach[i] for x in own), own.count(real_reach[i]))
        density += sum(x < real_reach[i] for x in d[i]) + at_edge * d[i].count(real_reach[i])
    in_real = [any(d[i][j] <= real_reach[i] for i in range(n)) for j in range(m)]
    in_made = [any(d[i][j] <= made_reach[j] for j in range(m)) for i in range(n)]
    return {
        "precision": Fraction(sum(in_real), m),
        "recall": Fraction(sum(in_made), n),
        "density": density / (k * m),
        "coverage": Fraction(sum(min(d[i]) <= real_reach[i] for i in range(n)), n),
    }


@pytest.mark.parametrize("offset", [0, FAR])
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize(("d", "high"), [(1, 3), (2, 4), (5, 3), (9, 50)])
def test_manifold_is_that_of_fractions(d: int, high: int, k: int, offset: int) -> None:
    real, made = whole(23, d, high) + offset, whole(17, d, high, seed=1) + offset
    made[:4] = real[:4]
    for a, b in ((real, made), (made, real), (real, real)):
        expected = {name: float(x) for name, x in fractions_manifold(a, b, k).items()}
        assert metrics.manifold(a, b, k) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("x", "k"),
    [
        (np.array([[0.6], [0.3]]), 1),  # the other row is at the edge of each ball
        ((rng(1).standard_normal((500, 64)) + 10).astype("f4"), 5),
        (np.ones((64, 16)), 5),  # every ball is a point
        (whole(40, 2) + FAR, 3),
        (np.r_[np.zeros((7, 3)), rng().standard_normal((20, 3))], 3),
        (rng().standard_normal((50, 8)) * 1e-160, 4),  # squares are denormal
        (rng().standard_normal((50, 8)) * 1e140, 4),
    ],
)
def test_what_equals_the_real_rows_scores_exactly_1(x: np.ndarray, k: int) -> None:
    ones = dict.fromkeys(("precision", "recall", "density", "coverage"), 1.0)
    assert metrics.manifold(x, x.copy(), k) == ones
    assert metrics.manifold(x, x[::-1].copy(), k) == ones


def test_manifold_is_that_of_other_packages_where_nothing_ties() -> None:
    prdc = pytest.importorskip("prdc")
    real, made = rng().standard_normal((120, 6)), 1.2 * rng(1).standard_normal((90, 6)) + 0.5
    for k in (1, 3, 10):
        theirs = prdc.compute_prdc(real_features=real, fake_features=made, nearest_k=k)
        found = metrics.manifold(real, made, k)
        assert found == pytest.approx(theirs, rel=1e-15)
        assert 0 < found["precision"] < 1  # type: ignore[operator]
        assert metrics.manifold(real * 2.0**-7, made * 2.0**-7, k) == found


def test_closed_balls_have_what_lies_on_their_edge() -> None:
    found = metrics.manifold(np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]]), 1)
    # Only 1 and 2 are in each other's balls, at the edge, and no place is left there for density.
    assert found == {"precision": 0.5, "recall": 0.5, "density": 0.0, "coverage": 0.5}


# Frechet distance, variance


@pytest.mark.parametrize("offset", [0.0, FAR])
@pytest.mark.parametrize("n", [2, 3, 40])  # 2 and 3: covariances of rank 1 and 2
def test_frechet_distance_in_closed_form(n: int, offset: float) -> None:
    x = whole(n, 6, 9)
    total = metrics.variance(x)
    assert total is not None
    for factor, shift in ((1, 0), (1, 3), (2, 0), (3, 5)):
        # of x and factor x + shift: (factor - 1)^2 trace(A) + |difference of means|^2
        away = ((factor - 1) * x.mean(axis=0) + shift) ** 2
        expected = (factor - 1) ** 2 * total + away.sum()
        found = metrics.frechet_distance(x + offset, factor * x + shift + offset)
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-12 * total)
        again = metrics.frechet_distance(factor * x + shift + offset, x + offset)
        assert again == pytest.approx(found, rel=1e-12, abs=1e-12 * total)


def test_frechet_distance_of_sets_that_share_no_direction() -> None:
    """Both covariances are singular, and roots of theirs would lose half of the digits."""
    x, y = np.zeros((2, 5, 8))
    x[:, 0], y[:, 1] = whole(5, 1, 9)[:, 0], 3 * whole(5, 1, 9, seed=1)[:, 0]
    expected = np.var(x[:, 0], ddof=1) + np.var(y[:, 1], ddof=1)
    expected += x[:, 0].mean() ** 2 + y[:, 1].mean() ** 2
    assert metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-15)


def test_frechet_distance_does_not_move_with_both_sets() -> None:
    x, y = whole(60, 5, 90), whole(50, 5, 70, seed=1)
    expected = metrics.frechet_distance(x, y)
    assert metrics.frechet_distance(x + FAR, y + FAR) == pytest.approx(expected, rel=1e-13)
    assert metrics.frechet_distance(x * 2.0**60, y * 2.0**60) == pytest.approx(
        float(expected or 0) * 2.0**120, rel=1e-13
    )


def test_variance_is_that_of_fractions() -> None:
    for offset in (0, FAR, -FAR):
        x = whole(7, 3, 100) + offset
        exact = Fraction(0)
        for column in x.T:
            values = [Fraction(int(v)) for v in column]
            mean = sum(values, Fraction(0)) / 7
            exact += sum(((v - mean) ** 2 for v in values), Fraction(0)) / 6
        assert metrics.variance(x) == pytest.approx(float(exact), rel=1e-14)
    for n in range(2, 20):  # the mean of n times 0.1, rounded, need not be 0.1
        assert metrics.variance(np.full((n, 3), 0.1)) == 0


# KID


def fractions_kid(a: Any, b: Any) -> Fraction:
    d = len(a[0])

    def kernel(x: Any, y: Any) -> Fraction:
        inner = sum(int(p) * int(q) for p, q in zip(x, y, strict=True))
        return (Fraction(inner, d) + 1) ** 3

    def own(x: Any) -> Fraction:
        n = len(x)
        return sum(
            (kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j), Fraction(0)
        ) / (n * (n - 1))

    cross = sum((kernel(x, y) for x in a for y in b), Fraction(0)) / (len(a) * len(b))
    return own(a) + own(b) - 2 * cross


@pytest.mark.parametrize("offset", [0, 1000, FAR])
@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (5, 9, 3), (20, 13, 4)])
def test_kid_is_that_of_fractions(n: int, m: int, d: int, offset: int) -> None:
    """Around 1e9 the kernel is of the order 1e54, and what counts in it 1e36."""
    a, b = whole(n, d, 8) + offset, whole(m, d, 6, seed=1) + offset + 1
    exact = float(fractions_kid(a, b))
    assert metrics.kid(a, b) == pytest.approx(exact, rel=1e-12)


@pytest.mark.slow
def test_kid_is_that_of_torchmetrics() -> None:
    pytest.importorskip("torchmetrics")
    import torch
    from torchmetrics.image.kid import poly_mmd

    a, b = torch.from_numpy(rng().standard_normal((2, 700, 6)) * [[[1]], [[2]]] + 1)
    theirs = float(poly_mmd(a, b, degree=3, gamma=None, coef=1.0))
    assert metrics.kid(a, b) == pytest.approx(theirs, rel=1e-10)


def test_kid_beyond_float64_is_none() -> None:
    assert metrics.kid(rng().random((3, 2)) * 1e120, rng().random((3, 2))) is None


# Vendi score


def kernel_vendi(x: np.ndarray) -> float:
    """Of the n by n kernel, where a zero row is like zero rows and nothing else."""
    zero = ~x.any(axis=1)
    unit = x / np.where(zero, 1, np.linalg.norm(x, axis=1))[:, None]
    values = np.linalg.eigvalsh((unit @ unit.T + np.outer(zero, zero)) / len(x))
    return math.exp(-sum(v * math.log(v) for v in values if v > 1e-14))


def test_zero_rows_are_a_direction_of_their_own() -> None:
    assert metrics.vendi_score(np.array([[0.0, 0], [1, 0]])) == pytest.approx(2)
    nine = np.r_[np.zeros((9, 2)), [[1.0, 0]]]
    assert metrics.vendi_score(nine) == pytest.approx(0.9**-0.9 * 0.1**-0.1, rel=1e-12)  # 1.384
    assert metrics.vendi_score(np.zeros((9, 2))) == 1
    assert metrics.vendi_score(np.zeros((1, 3))) == 1
    mixed = np.r_[whole(30, 4), np.zeros((3, 4))]
    assert metrics.vendi_score(mixed) == pytest.approx(kernel_vendi(mixed), rel=1e-12)


@pytest.mark.parametrize("shape", [(40, 5), (5, 40), (1, 3)])
def test_vendi_score_by_either_form_and_at_any_scale(shape: tuple[int, int]) -> None:
    x = rng().standard_normal(shape)
    expected = metrics.vendi_score(x)
    assert expected == pytest.approx(kernel_vendi(x), rel=1e-12)
    for scale in (2.0**-700, 2.0**400):
        scales = np.where(np.arange(len(x)) % 2, scale, 1.0)[:, None]
        assert metrics.vendi_score(x * scales) == pytest.approx(expected, rel=1e-12)


# against other packages


@pytest.fixture
def sets() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((12, 12))
    return rng.standard_normal((300, 12)) @ mixing, 0.8 * rng.standard_normal(
        (250, 12)
    ) @ mixing + 1


class Flat(torch.nn.Module):
    """Lets torchmetrics take vectors for images' features."""

    num_features = 12

    def forward(self, x: Any) -> Any:
        return x


def test_frechet_distance_and_kid_against_torchmetrics(sets: Any) -> None:
    pytest.importorskip("torchmetrics")
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    a, b = (torch.from_numpy(x) for x in sets)
    theirs = _compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert metrics.frechet_distance(*sets) == pytest.approx(float(theirs), rel=1e-9)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    same = min(len(a), len(b))
    theirs = poly_mmd(a[:same], b[:same], degree=3, gamma=None, coef=1.0)
    assert metrics.kid(a[:same], b[:same]) == pytest.approx(float(theirs), rel=1e-9)


def test_precision_recall_density_coverage_against_prdc(sets: Any) -> None:
    prdc = pytest.importorskip("prdc")
    theirs = prdc.compute_prdc(real_features=sets[0], fake_features=sets[1], nearest_k=5)
    assert metrics.manifold(*sets, 5) == pytest.approx(theirs)


def test_vendi_score_is_that_of_the_whole_kernel(sets: Any) -> None:
    x = sets[0] / np.linalg.norm(sets[0], axis=1, keepdims=True)
    values = np.linalg.eigvalsh(x @ x.T / len(x))
    values = values[values > 1e-12]
    whole = math.exp(-(values * np.log(values)).sum())
    assert metrics.vendi_score(sets[0]) == pytest.approx(whole)
    assert metrics.vendi_score(np.ones((50, 3))) == pytest.approx(1)


# small sets, bad values


def test_none_where_a_set_is_too_small() -> None:
    y, ones = rng().random((30, 4)), np.ones((9, 3))
    for sets in ((y[:1], y), (y, y[:1])):
        assert metrics.measure(sets[0], sets[1], sets[0])["frechet_distance"] is None
    assert metrics.kid(y[:1], y) is None
    assert metrics.kid(y, y[:1]) is None
    assert metrics.fld(ones, ones, ones) is None
    assert metrics.fld(y[:1], y, y) is None
    assert metrics.fld(y, y[:1], y) is None
    assert metrics.fld(y[:2], y, y[:1]) is not None
    assert metrics.variance(y[:1]) is None
    nothing = dict.fromkeys(("precision", "recall", "density", "coverage"))
    assert metrics.manifold(y[:5], y, 5) == nothing
    assert metrics.manifold(y, y[:5], 5) == nothing
    assert metrics.manifold(y[:6], y, 5)["precision"] is not None
    assert metrics.spread(y[:1]) == {
        "n": 1, "entropy": None, "geometric_mean_distance": None, "duplicates": 0, "variance": None,
    }  # fmt: skip


def test_measure_of_a_single_row() -> None:
    y = rng().random((30, 4))
    found = metrics.measure(y, y[:1], y, y[:1])
    absent = {name for name, value in found.items() if value is None}
    assert absent == {
        "frechet_distance", "kid", "precision", "recall", "density", "coverage", "fld",
    }  # fmt: skip
    assert (found["generalization_score"], found["memorised_fraction"]) == (0, 1)
    assert found["vendi_score"] == 1
    one = metrics.measure(y[:1], y, y[:1])
    assert one["mean_nearest_distance"] is None
    assert one["memorised_fraction"] is None
    assert one["generalization_score"] > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused_by_name(bad: float) -> None:
    y = rng().random((30, 4))
    z = y.copy()
    z[7, 2] = bad
    for call, name in (
        (lambda: metrics.measure(z, y, y), "training"),
        (lambda: metrics.measure(y, z, y), "generated"),
        (lambda: metrics.measure(y, y, z), "real"),
        (lambda: metrics.measure(y, y, y, z), "held_out"),
        (lambda: metrics.frechet_distance(z, y), "one"),
        (lambda: metrics.frechet_distance(y, z), "other"),
        (lambda: metrics.kid(y, z), "other"),
        (lambda: metrics.manifold(y, z, 5), "made"),
        (lambda: metrics.vendi_score(z), "features"),
        (lambda: metrics.variance(z), "features"),
        (lambda: metrics.fld(y, z, y), "test"),
    ):
        with pytest.raises(ValueError, match=rf"^{name}: values must be finite; row 7"):
            call()
    with pytest.raises(ValueError, match=r"^generated: has 3 columns but training has 4"):
        metrics.measure(y, y[:, :3], y)
    with pytest.raises(ValueError, match=r"^k: must be at least 1"):
        metrics.manifold(y, y, 0)
    with pytest.raises(ValueError, match=r"^generated: empty"):
        metrics.measure(y, y[:0], y)


# Floating-point environment


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")
def test_sets_on_a_gpu_give_the_same_figures(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    device = "cpu" if NO_GPU else "cuda"
    sets = [
        rng(seed).integers(0, 6, (n, 3)).astype(np.float32) for seed, n in enumerate((30, 24, 20))
    ]
    there = [Rows(torch.as_tensor(rows, device=device), "float32") for rows in sets]
    found = metrics.measure(*there, there[0], reference="held-out", neighbours=2)
    monkeypatch.setenv("ENTROSELECT_BACKEND", "cpu")
    assert found == metrics.measure(*sets, sets[0], reference="held-out", neighbours=2)


def test_figures_do_not_depend_on_flush_to_zero() -> None:
    """Of features whose values, or only whose squares, are subnormal numbers; all at once, and one
    by one."""
    import torch

    subnormal = [rng(i).integers(1, 2**40, (24, 3)).view(np.float64) for i in range(3)]
    functions = [
        lambda a, b, c: metrics.measure(a, b, c, a),
        *((lambda a, *_, f=f: f(a)) for f in (metrics.spread, metrics.variance)),
        lambda a, *_: metrics.vendi_score(a),
        *((lambda a, b, _, f=f: f(a, b)) for f in (metrics.frechet_distance, metrics.kid)),
        lambda a, b, _: metrics.manifold(a, b, 3),
        metrics.fld,
    ]
    tiny = [rng(i).standard_normal((24, 3)) * 1e-161 for i in range(3)]
    for sets in (subnormal, tiny):
        for number, function in enumerate(functions):
            torch.set_flush_denormal(False)
            expected = function(*sets)
            torch.set_flush_denormal(True)
            try:
                assert function(*sets) == expected, number
            finally:
                torch.set_flush_denormal(False)
    assert metrics.vendi_score(subnormal[0]) > 1.5
