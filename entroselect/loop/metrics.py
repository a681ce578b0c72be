"""What is measured about a training set and what was generated from it, on (n, d) features.

Distances, entropy and neighbours come from the engine. Everything is float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from entroselect import nearest_distances
from entroselect._checks import usable_rows
from entroselect.entropy import from_neighbours
from entroselect.results import Float64

Features = NDArray[Any]


def measure(
    training: Features,
    generated: Features,
    real: Features,
    held_out: Features | None = None,
    *,
    neighbours: int = 5,
    memorised: float = 0.33,
) -> dict[str, Any]:
    """Everything about one iteration, in one space.

    Args:
        training: D_n, what the model was trained on.
        generated: G_n, what it made.
        real: the reference, D_1.
        held_out: real images nobody trained on; without, there is no FLD.
        neighbours: k of precision, recall, density and coverage.
        memorised: a generated image counts as memorised when its nearest training image is closer
            than this share of the real images' median nearest distance.

    Returns:
        entropy (nats; one of equal images counts), geometric_mean_distance (comparable across
        sizes), duplicates and variance of training and generated; generalization_score (l2 and
        mse), mean_nearest_distance of training, memorised_fraction, frechet_distance, kid,
        precision, recall, density, coverage, vendi_score, fld. None where a set is too small.
    """
    to_training = nearest_distances(generated, training).distances[:, 0]
    among_real = nearest_distances(real).distances[:, 0]
    near = nearest_distances(training).distances[:, 0]
    close = memorised * float(np.median(among_real))
    return {
        "training": spread(training),
        "generated": spread(generated),
        "generalization_score": float(np.mean(to_training)),
        "generalization_score_mse": float(np.mean(to_training**2) / training.shape[1]),
        "mean_nearest_distance": float(np.mean(near)),
        "memorised_fraction": float(np.mean(to_training < close)) if close > 0 else None,
        "frechet_distance": frechet_distance(real, generated),
        "kid": kid(real, generated),
        **manifold(real, generated, neighbours),
        "vendi_score": vendi_score(generated),
        "fld": None if held_out is None else fld(real, held_out, generated),
    }


def spread(features: Features) -> dict[str, Any]:
    """Entropy, duplicates and variance of one set."""
    rows = usable_rows("features", features)
    found = nearest_distances(rows)
    copies = int(np.count_nonzero(found.distances == 0))
    try:
        entropy = from_neighbours(rows, found, duplicates="drop")
        value, typical = float(entropy), entropy.geometric_mean_distance
    except ValueError:  # fewer than two distinct rows: no entropy
        value, typical = None, None
    return {
        "n": rows.n,
        "entropy": value,
        "geometric_mean_distance": typical,
        "duplicates": copies,
        "variance": variance(features),
    }


def variance(features: Features) -> float:
    """Trace of the covariance, ddof 1."""
    return float(np.var(features, axis=0, ddof=1, dtype=np.float64).sum())


def frechet_distance(one: Features, other: Features) -> float:
    """|mean difference|^2 + trace(A + B - 2 (A B)^(1/2)) for covariances A and B.

    Heusel et al. 2017, equation 6; of Inception's features it is the FID. The last trace is the
    sum of the singular values of A^(1/2) B^(1/2), which needs no square root of an asymmetric
    matrix.
    """
    a, b = (np.asarray(x, np.float64) for x in (one, other))
    half = [_root(np.cov(x, rowvar=False, ddof=1)) for x in (a, b)]
    shared = np.linalg.svd(half[0] @ half[1], compute_uv=False).sum()
    shift = a.mean(axis=0) - b.mean(axis=0)
    return float(shift @ shift + (half[0] ** 2).sum() + (half[1] ** 2).sum() - 2 * shared)


def _root(covariance: Float64) -> Float64:
    values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def kid(one: Features, other: Features) -> float:
    """Unbiased squared MMD with the kernel (x.y / d + 1)^3, of whole sets (Binkowski et al. 2018).

    O(n m) memory for sets of n and m rows.
    """
    a, b = (np.asarray(x, np.float64) for x in (one, other))
    d, n, m = a.shape[1], len(a), len(b)

    def kernel(x: Float64, y: Float64) -> Float64:
        return np.asarray((x @ y.T / d + 1) ** 3)

    own = [
        (k.sum() - np.trace(k)) / (s * (s - 1)) for k, s in ((kernel(a, a), n), (kernel(b, b), m))
    ]
    return float(own[0] + own[1] - 2 * kernel(a, b).mean())


def manifold(real: Features, made: Features, k: int) -> dict[str, float | None]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    A ball around every row reaches to its k-th nearest other row. Precision: share of made rows in
    any real ball. Recall: share of real rows in any made ball. Density: real balls around a made
    row, over k. Coverage: share of real balls with a made row.
    """
    if min(len(real), len(made)) <= k:
        return dict.fromkeys(("precision", "recall", "density", "coverage"))
    real_reach = nearest_distances(real, k=k).distances[:, -1]
    made_reach = nearest_distances(made, k=k).distances[:, -1]
    nearest_made = nearest_distances(real, made).distances[:, 0]
    inside = np.zeros(len(made), np.int64)
    covered = np.zeros(len(real), bool)
    a, b = (np.asarray(x, np.float64) for x in (real, made))
    for first in range(0, len(a), 512):
        rows = slice(first, first + 512)
        distances = _distances(a[rows], b)
        inside += (distances < real_reach[rows, None]).sum(axis=0)
        covered[rows] = (distances < made_reach[None]).any(axis=1)
    return {
        "precision": float((inside > 0).mean()),
        "recall": float(covered.mean()),
        "density": float(inside.mean() / k),
        "coverage": float((nearest_made < real_reach).mean()),
    }


def _distances(x: Float64, y: Float64) -> Float64:
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.asarray(np.sqrt(np.maximum(squared, 0)))


def vendi_score(features: Features) -> float:
    """exp of the von Neumann entropy of the cosine kernel over n (Friedman and Dieng 2023).

    From 1 (all alike) to n; the d by d form, whose eigenvalues are the same.
    """
    x = np.asarray(features, np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    x = x / np.where(norms > 0, norms, 1)
    values = np.linalg.eigvalsh(x.T @ x / len(x))
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def fld(train: Features, test: Features, made: Features, steps: int = 100) -> float:
    """Feature likelihood divergence (Jiralerspong et al. 2023): 0 is perfect, larger is worse.

    A Gaussian around every made row, each with its own width, fitted to the likelihood of `train`
    and judged by that of `test`: -100 / d times the mean log likelihood, less the same of a mixture
    around one half of `train`, fitted to the other half. A model that copies `train` gets narrow
    Gaussians and is punished. Features are scaled by the training set's mean and deviation.
    """
    x, y, z = (torch.from_numpy(np.asarray(a, np.float64)) for a in (train, test, made))
    mean, std = x.mean(0), x.std(0)
    keep = std > 0
    x, y, z = (((a - mean) / std.where(keep, torch.ones_like(std)))[:, keep] for a in (x, y, z))
    base = _mixture_nll(x[::2], x[1::2], y, steps)
    return 100 / x.shape[1] * (_mixture_nll(z, x, y, steps) - base)


def _mixture_nll(
    centres: torch.Tensor, fit: torch.Tensor, judge: torch.Tensor, steps: int
) -> float:
    d = centres.shape[1]
    to_fit, to_judge = (torch.cdist(a, centres) ** 2 for a in (fit, judge))
    log_width = torch.zeros(len(centres), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([log_width], 0.1, foreach=False)

    def nll(squared: torch.Tensor) -> torch.Tensor:
        scores = -0.5 * squared * torch.exp(-log_width) - 0.5 * d * log_width
        constant = 0.5 * d * math.log(2 * math.pi) + math.log(len(centres))
        return constant - torch.logsumexp(scores, 1).mean()

    for _ in range(steps):
        optimiser.zero_grad()
        nll(to_fit).backward()
        optimiser.step()
    with torch.no_grad():
        return float(nll(to_judge))
