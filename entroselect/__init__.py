"""entroselect: the k most spread-out rows of a pool, and how much entropy they carry, exactly.

greedy_select, threshold_select, nearest_distances and kl_entropy return the answer of their
textbook loop in float64, on every backend; see docs/exactness.md.
"""

from importlib.util import find_spec as _find_spec

try:
    from entroselect import _core as _core
except ImportError:
    if _find_spec("entroselect._core") is not None:
        raise  # it is there; its own error says why it does not load
    raise ImportError(
        f"{__path__[0]} holds no compiled module for this Python: it is a checkout that has not "
        "been built. Run `pip install --editable .` in it, or, to use what is installed elsewhere, "
        "start Python in another folder"
    ) from None

from entroselect.anchored import anchored_select
from entroselect.batch import BatchSelection, greedy_select_batch
from entroselect.cover import deduplicate
from entroselect.entropy import generalization_score, kl_entropy, mean_nearest_distance
from entroselect.frames import take
from entroselect.greedy import greedy_select
from entroselect.io import open_pool
from entroselect.measures.diagnosis import Diagnosis, diagnose
from entroselect.measures.energy import energy_distance, mmd
from entroselect.measures.frechet import frechet_distance
from entroselect.moments import FrechetSelection, frechet_select
from entroselect.nearest import nearest_distances
from entroselect.results import (
    AnchoredSelection,
    Cover,
    Entropy,
    Neighbourhoods,
    Neighbours,
    Selection,
)
from entroselect.threshold import threshold_select
from entroselect.within import neighbours_within

__all__ = [
    "AnchoredSelection",
    "BatchSelection",
    "Cover",
    "Diagnosis",
    "Entropy",
    "FrechetSelection",
    "Neighbourhoods",
    "Neighbours",
    "Selection",
    "anchored_select",
    "deduplicate",
    "diagnose",
    "energy_distance",
    "frechet_distance",
    "frechet_select",
    "generalization_score",
    "greedy_select",
    "greedy_select_batch",
    "kl_entropy",
    "mean_nearest_distance",
    "mmd",
    "nearest_distances",
    "neighbours_within",
    "open_pool",
    "take",
    "threshold_select",
]


def __getattr__(name: str) -> str:
    """`__version__`, looked up when asked for, since that takes a fifth of the whole import."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("entroselect")
