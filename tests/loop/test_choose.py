"""Picking by features, and the pools of the paradigms."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from entroselect import energy_distance, frechet_distance  # noqa: E402
from entroselect.loop import config, data, features, metrics, paradigms  # noqa: E402
from entroselect.loop.measuring import Measuring  # noqa: E402
from entroselect.loop.selection import choose  # noqa: E402
from tests.support.images import pixels  # noqa: E402
from tests.support.loop_runs import TINY  # noqa: E402


def images(n: int, kind: int, iteration: int = 0) -> data.Images:
    return data.Images(pixels(n), None, data.origins(kind, n, iteration))


def test_features_stay_in_host_memory_without_a_gpu() -> None:
    images = data.Images(np.zeros((3, 8, 8, 1), np.uint8), None, data.origins(data.REAL, 3))
    assert isinstance(features.for_search(features.pixels, images), np.ndarray)
    net = features._Batches(torch.nn.Flatten(), lambda given, rows: torch.ones(len(rows), 4), "cpu")
    np.testing.assert_array_equal(features.for_search(net, images), np.ones((3, 4), np.float32))


def test_features_of_a_network_stay_on_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    net = features._Batches(torch.nn.Flatten(), lambda given, rows: torch.ones(len(rows), 4), "cpu")
    net.device, there = "cuda", torch.ones(3, 4)  # which stands for a tensor on the GPU
    monkeypatch.setattr(net, "tensor", lambda given: there)
    monkeypatch.setattr(features, "why_not_cuda", lambda: "")
    assert features.for_search(net, images(3, data.REAL)) is there
    measuring = Measuring(config.Config(), {"net": net}, images(3, data.REAL), None)
    assert measuring._fixed("net") == (there, None)
    monkeypatch.setenv("ENTROSELECT_BACKEND", "cpu")
    assert isinstance(features.for_search(net, images(3, data.REAL)), np.ndarray)


def test_every_method_chooses_k_different_rows() -> None:
    pool = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    chosen = {}
    for method in ("none", "random", "greedy", "threshold", "variance"):
        rows = choose(pool, 50, method, key=(3,))  # type: ignore[arg-type]
        assert len(set(rows.tolist())) == 50
        assert np.array_equal(rows, choose(pool, 50, method, key=(3,)))  # type: ignore[arg-type]
        chosen[method] = rows
    entropy = {m: metrics.spread(pool[r])["entropy"] for m, r in chosen.items()}
    assert entropy["greedy"] > entropy["random"] + 1
    assert entropy["threshold"] > entropy["random"] + 1
    variance = {m: metrics.variance(pool[r]) for m, r in chosen.items()}
    assert variance["variance"] > variance["random"]


def test_outliers_can_be_kept_out() -> None:
    pool = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    pool[7] += 100
    assert 7 in choose(pool, 20, "greedy")
    assert 7 not in choose(pool, 20, "greedy", drop_outliers=0.05)
    with pytest.raises(ValueError, match=r"select.drop_outliers: leaves 100 of 200 images"):
        choose(pool, 150, "greedy", drop_outliers=0.5)


@pytest.mark.parametrize("method", ["greedy", "random", "threshold", "variance"])
def test_what_is_far_from_real_images_can_be_kept_out(method: config.Method) -> None:
    draw = np.random.default_rng(0)
    real = draw.standard_normal((50, 8)).astype(np.float32)
    pool = draw.standard_normal((200, 8)).astype(np.float32) * 2
    away = np.linalg.norm(pool[:, None] - real[None], axis=2).min(axis=1)
    allowed = set(np.argsort(away)[:120].tolist())
    assert not set(choose(pool, 120, method).tolist()) <= allowed
    assert set(choose(pool, 120, method, drop_far=0.4, real=real).tolist()) == allowed
    # With both floors, what either leaves out is out.
    both = choose(pool, 60, method, drop_far=0.4, drop_outliers=0.3, real=real).tolist()
    lonely = np.sort(np.linalg.norm(pool[:, None] - pool[None], axis=2), axis=1)[:, 5]
    assert set(both) <= allowed & set(np.argsort(lonely)[:140].tolist())
    with pytest.raises(ValueError, match=r"select.drop_far: leaves 120 of 200 images"):
        choose(pool, 121, method, drop_far=0.4, real=real)
    with pytest.raises(ValueError, match="drop_far: needs real"):
        choose(pool, 10, method, drop_far=0.4)


@pytest.mark.parametrize(
    ("paradigm", "method", "made", "pool", "wanted"),
    [
        ("replace", "none", 10, 10, 10),
        ("replace", "greedy", 20, 20, 10),
        ("accumulate", "none", 10, 30, 30),
        ("accumulate", "greedy", 10, 30, 10),
        ("accumulate-subsample", "none", 10, 30, 10),
        ("fresh-data", "none", 10, 25, 25),
        ("fresh-data", "greedy", 10, 25, 12),
        ("multi-model", "none", 10, 50, 10),
        ("multi-model", "greedy", 10, 50, 10),
    ],
)
def test_pools_of_the_paradigms(
    paradigm: Any, method: Any, made: int, pool: int, wanted: int
) -> None:
    options = dataclasses.replace(TINY, paradigm=paradigm)
    options = dataclasses.replace(options, select=config.Select(method=method))
    fresh_images = 5 if paradigm == "fresh-data" else 0
    options = config.complete(dataclasses.replace(options, fresh=fresh_images))
    real, models = images(10, data.REAL), len(paradigms.models(options))
    assert paradigms.to_generate(options, 10) == made
    generated = [images(made * models, data.SYNTHETIC, i) for i in (1, 2)]
    fresh = images(5, data.FRESH) if paradigm == "fresh-data" else None
    found = paradigms.pool(options, real, real, generated, fresh)
    assert len(found) == pool
    assert paradigms.wanted(options, 10, len(found)) == wanted
    assert (found.origins[:, 0] == data.REAL).any() == (paradigm != "replace")


def test_quotas_are_equal() -> None:
    rows = paradigms.quotas((0,), [20, 20, 20], 10)
    assert np.bincount(rows // 20).tolist() == [4, 3, 3]
    assert len(set(rows.tolist())) == 10


@pytest.fixture(scope="module")
def matched() -> tuple[Any, Any]:
    """A pool of which half is like the real images, and half far from them."""
    draw = np.random.default_rng(0)
    real = draw.standard_normal((300, 6))
    pool = np.concatenate([draw.standard_normal((150, 6)), 3 * draw.standard_normal((150, 6)) + 4])
    return pool, real


def test_anchored_matches_the_real_images_as_far_as_diversity_allows(matched: Any) -> None:
    pool, real = matched
    away = {
        w: energy_distance(pool[choose(pool, 60, "anchored", real=real, diversity=w)], real)
        for w in (0.0, 0.003, 1.0)
    }
    random = energy_distance(pool[choose(pool, 60, "random")], real)
    assert 5 * away[0.0] < random
    assert away[0.0] < away[0.003] < away[1.0]
    with pytest.raises(ValueError, match="need real"):
        choose(pool, 60, "anchored")


def test_moments_match_and_keep_the_entropy_of_random_rows(matched: Any) -> None:
    pool, real = matched
    rows = choose(pool, 60, "moments", real=real, key=(3,))
    drawn = choose(pool, 60, "random", key=(3,))
    away = [frechet_distance(pool[chosen], real) for chosen in (rows, drawn)]
    assert away[0] < 0.8 * away[1]
    entropy = [metrics.spread(pool[chosen])["entropy"] for chosen in (rows, drawn)]
    assert entropy[0] >= entropy[1]
    assert len(set(choose(pool, 300, "moments", real=real).tolist())) == 300
    few = np.repeat(pool[:20], 5, axis=0)  # some of 60 picks are equal, and have no entropy
    assert len(set(choose(few, 60, "moments", real=real).tolist())) == 60


def test_a_part_of_the_real_images_may_be_matched(matched: Any) -> None:
    pool, real = matched
    biased = np.concatenate([real, np.full((300, 6), 50.0)])
    picks = [
        choose(pool, 20, "anchored", real=biased, reference=count, key=(key,)).tolist()
        for count, key in ((600, 0), (300, 0), (300, 1), (300, 1))
    ]
    assert picks[0] == choose(pool, 20, "anchored", real=biased, key=(5,)).tolist()
    assert picks[1] != picks[2] == picks[3]
