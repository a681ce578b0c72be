"""entroselect: the k most spread-out rows of a pool, and how much entropy they carry, exactly.

greedy_select, threshold_select, nearest_distances and kl_entropy return the answer of their
textbook loop in float64, whatever runs underneath; see docs/exactness.md.
"""

from importlib.metadata import version as _version

from entroselect.entropy import generalization_score, kl_entropy, mean_nearest_distance
from entroselect.greedy import greedy_select
from entroselect.io import open_pool
from entroselect.nearest import nearest_distances
from entroselect.results import Entropy, Neighbours, Selection
from entroselect.threshold import threshold_select

__version__ = _version("entroselect")

__all__ = [
    "Entropy",
    "Neighbours",
    "Selection",
    "generalization_score",
    "greedy_select",
    "kl_entropy",
    "mean_nearest_distance",
    "nearest_distances",
    "open_pool",
    "threshold_select",
]
