"""Measures of a training set and of the images generated from it, on (n, d) features.

Distances are the engine's: canonical float64 sums of squared differences, never
|x|^2 + |y|^2 - 2 x.y, so equal rows are at 0 and ties stay ties, at any offset. Everything is
float64. Every function takes what the engine takes (NumPy, torch, any real dtype), refuses values
that are not finite under the argument's name, and returns None where a set is too small.
Neighbours of rows on a GPU are found there; sums are float64 on the CPU.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch

from entroselect import frechet_distance, nearest_distances
from entroselect._checks import same_width, usable_rows
from entroselect._float_environment import in_default_float_environment
from entroselect.backends.cpu import distances_to
from entroselect.entropy import from_neighbours
from entroselect.io.rows import Rows
from entroselect.measures.frechet import shifted
from entroselect.measures.manifold import manifold
from entroselect.reference import unit_rows
from entroselect.results import Float64, on_host

Features = Any


@in_default_float_environment
def measure(
    training: Features,
    generated: Features,
    real: Features,
    held_out: Features | None = None,
    *,
    neighbours: int = 5,
    memorised: float = 0.33,
    reference: Literal["real", "held-out"] = "real",
) -> dict[str, Any]:
    """Everything about one iteration, in one space.

    Args:
        training: D_n, what the model was trained on.
        generated: G_n, what it made.
        real: D_1.
        held_out: real images that no model was trained on; without them there is no FLD.
        neighbours: k of precision, recall, density and coverage.
        memorised: a generated image counts as memorised when its nearest training image is closer
            than this share of the real images' median nearest distance, not when it is at exactly
            that. Where the median is 0 (half of the real images have a copy) nothing can be
            closer: None.
        reference: to what the Frechet distance, KID, precision, recall, density and coverage are
            taken. A model that copies D_1 is near to that, and not to the held-out images.

    Returns:
        entropy (nats; one of equal images counts), geometric_mean_distance (in the unit of
        the features), duplicates and variance of training and generated; generalization_score (l2
        and mse), mean_nearest_distance of training, memorised_fraction, frechet_distance, kid,
        precision, recall, density, coverage, vendi_score, fld. None where a set is too small.

    Raises:
        ValueError, TypeError: naming the set, for values that are not finite and for no rows.
    """
    sets = {"training": training, "generated": generated, "real": real, "held_out": held_out}
    rows = {name: usable_rows(name, x) for name, x in sets.items() if x is not None}
    for name, found in rows.items():
        same_width(name, found, "training", rows["training"])
    d_n, g_n, d_1 = rows["training"], rows["generated"], rows["real"]
    to_training = on_host(nearest_distances(g_n, d_n).distances)[:, 0]
    target = d_1 if reference == "real" else rows["held_out"]
    near, among_real = _nearest_others(d_n), _nearest_others(d_1)
    close = None if among_real is None else memorised * float(np.median(among_real))
    return {
        "training": spread(d_n),
        "generated": spread(g_n),
        "generalization_score": float(np.mean(to_training)),
        "generalization_score_mse": float(np.mean(to_training**2) / d_n.d),
        "mean_nearest_distance": None if near is None else float(np.mean(near)),
        "memorised_fraction": float(np.mean(to_training < close)) if close else None,
        "frechet_distance": frechet_distance(target, g_n) if min(target.n, g_n.n) > 1 else None,
        "kid": kid(target, g_n),
        **manifold(target, g_n, neighbours),
        "vendi_score": vendi_score(g_n),
        "fld": fld(d_1, rows["held_out"], g_n) if "held_out" in rows else None,
    }


def _nearest_others(rows: Rows) -> Float64 | None:
    return on_host(nearest_distances(rows).distances)[:, 0] if rows.n > 1 else None


@in_default_float_environment
def spread(features: Features) -> dict[str, Any]:
    """Entropy, duplicates (rows with an equal other row) and variance of one set."""
    rows = usable_rows("features", features)
    value, typical, copies = None, None, 0
    if rows.n > 1:
        found = nearest_distances(rows)
        copies = int(np.count_nonzero(on_host(found.distances) == 0))
        try:
            entropy = from_neighbours(rows, found, duplicates="drop")
            value, typical = float(entropy), entropy.geometric_mean_distance
        except ValueError:  # fewer than two distinct rows: no entropy
            pass
    return {
        "n": rows.n,
        "entropy": value,
        "geometric_mean_distance": typical,
        "duplicates": copies,
        "variance": variance(rows),
    }


@in_default_float_environment
def variance(features: Features) -> float | None:
    """Trace of the covariance, ddof 1; None for a single row."""
    x = usable_rows("features", features).float64()
    if len(x) < 2:
        return None
    # Off the first row, so that an offset costs no digits and constant columns give exactly 0.
    return float(np.var(x - x[0], axis=0, ddof=1).sum())


@in_default_float_environment
def kid(one: Features, other: Features) -> float | None:
    """Unbiased squared MMD with the kernel (x.y / d + 1)^3, of whole sets (Binkowski et al. 2018).

    The kernel depends on where the origin is, so the KID of shifted sets is another; it is computed
    without the cancellation that an offset brings (see `_kernel`). None where a set has a single
    row, or where the value is beyond float64.
    """
    rows = usable_rows("one", one)
    a, b = shifted(rows, other)
    origin, d, n, m = rows.float64(0), rows.d, len(a), len(b)
    if min(n, m) < 2:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        level = float(origin @ origin) / d + 1

        def total(x: Float64, y: Float64, pairs: bool = True) -> float:
            """Sum of the kernel over all pairs, or of each row of x with that of y beside it."""
            p, q = x @ origin / d, y @ origin / d
            if not pairs:
                return float(_kernel(level, p, q, (x * y).sum(1) / d).sum())
            parts = (slice(i, i + 512) for i in range(0, len(x), 512))
            return math.fsum(_kernel(level, p[s, None], q, x[s] @ y.T / d).sum() for s in parts)

        own = [(total(x, x) - total(x, x, pairs=False)) / (len(x) * (len(x) - 1.0)) for x in (a, b)]
        found = own[0] + own[1] - 2 * total(a, b) / (n * m)
    return found if math.isfinite(found) else None


def _kernel(level: float, p: Float64, q: Float64, w: Float64) -> Float64:
    """(level + p + q + w)^3 less all that depends on p alone or on q alone.

    With x = o + u and y = o + v the kernel's base x.y / d + 1 is level + p + q + w for
    level = o.o / d + 1, p = o.u / d, q = o.v / d, w = u.v / d. A function of one row adds the same
    to every mean of the unbiased estimate and cancels; left out here, it does not swamp the rest.
    """
    line = level + p + q
    return np.asarray(3 * p * q * (level + line) + w * (3 * line * (line + w) + w * w))


@in_default_float_environment
def vendi_score(features: Features) -> float:
    """exp of the von Neumann entropy of the cosine kernel over n (Friedman and Dieng 2023).

    From 1 (all alike) to n. A zero row, such as a black image, has no direction; it counts as one
    that is like other zero rows and unlike all else.
    """
    x = usable_rows("features", features).float64().copy()
    zero = ~x.any(axis=1)
    x[~zero] = unit_rows(x[~zero])
    x = np.hstack([x, zero[:, None]])
    # The n by n kernel and the d by d form have the same eigenvalues.
    kernel = x @ x.T if len(x) < x.shape[1] else x.T @ x
    values = np.linalg.eigvalsh(kernel / len(x))
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()).clip(1, len(x)))


# The settings of the authors' code (github.com/marcojira/fld, of February 2024).
_MADE = 10_000
_BATCH = 10_000
_EPOCHS = 50
_RATE = 0.5


@in_default_float_environment
def fld(train: Features, test: Features, made: Features) -> float | None:
    """Feature likelihood divergence (Jiralerspong et al. 2023): 0 is perfect, larger is worse.

    A Gaussian around every made row, each with its own width, fitted to the likelihood of `train`
    and judged by that of `test`: -100 / d times the mean log likelihood, less the same of Gaussians
    around one half of `train`, fitted to the other half. A model that copies `train` gets narrow
    Gaussians and is punished. It is the number of the authors' code, with its scaling by the mean
    and deviation of `test`, its first widths and its broad Gaussian around the mean that is there
    while fitting. What is drawn there (the halves, and 10,000 of more made rows) is drawn with a
    fixed seed here, and columns in which `test` is constant, which make theirs NaN, are left out.

    None where `train` or `test` has a single row or no column of `test` varies. Memory: some five
    arrays of 10,000 x 10,000 float64 at most, and len(train) x 10,000.
    """
    rows = {n: usable_rows(n, x) for n, x in (("train", train), ("test", test), ("made", made))}
    for name, found in rows.items():
        same_width(name, found, "train", rows["train"])
    x, y, z = (found.float64() for found in rows.values())
    if min(len(x), len(y)) < 2:
        return None
    origin = y[0]  # first, so that columns of equal values have a deviation of exactly 0
    mean, deviation = (y - origin).mean(axis=0), (y - origin).std(axis=0, ddof=1)
    keep = deviation > 0
    if not keep.any():
        return None
    x, y, z = (((a - origin - mean) / deviation.clip(1e-300))[:, keep] for a in (x, y, z))
    draw = np.random.default_rng(0)
    if len(z) > _MADE:
        z = z[draw.permutation(len(z))[:_MADE]]
    mixed = x[draw.permutation(len(x))]
    half = min(len(z), len(x) // 2)
    return 100 * (_nll(z, mixed, y) - _nll(mixed[:half], mixed[half:], y))


def _nll(centres: Float64, fit: Float64, judge: Float64) -> float:
    """Mean negative log likelihood of `judge`, over d, under Gaussians fitted to `fit`."""
    m, d = centres.shape
    to_fit = torch.from_numpy(_all_squared(fit, centres))
    mean = fit.mean(axis=0)
    to_mean = torch.from_numpy(0.81 * _all_squared(fit, mean[None]))
    widths = ((to_fit.min(dim=0).values + 1e-3) / d).log().requires_grad_()
    broad = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([widths, broad], _RATE, foreach=False)

    def scores(squared: torch.Tensor, log_width: torch.Tensor) -> torch.Tensor:
        return -0.5 * (squared * torch.exp(-log_width) + d * (log_width + math.log(2 * math.pi)))

    losses: list[float] = []
    for _ in range(_EPOCHS):
        parts = []
        for near, far in zip(to_fit.split(_BATCH), to_mean.split(_BATCH), strict=True):
            optimiser.zero_grad()
            each = torch.cat([scores(near, widths) - math.log(m), scores(far, broad)], dim=1)
            loss = -torch.logsumexp(each, dim=1).mean() / d
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                widths.clamp_(-40, 40)
            parts.append(loss.item())
        losses.append(sum(parts) / len(parts))
        if len(losses) > 6 and max(abs(losses[-1] - before) for before in losses[-5:]) < 5e-4:
            break
    with torch.no_grad():
        each = scores(torch.from_numpy(_all_squared(judge, centres)), widths) - math.log(m)
        return float(-torch.logsumexp(each, dim=1).mean() / d)


def _all_squared(rows: Float64, points: Float64) -> Float64:
    """Squared distances (len(rows), len(points)) by differences."""
    found = usable_rows("points", points)
    return np.stack([distances_to(found, "euclidean", row) for row in rows])
