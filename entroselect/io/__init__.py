"""Pools on disk, read piece by piece: `open_pool` and what it returns."""

from entroselect.io.open import open_pool
from entroselect.io.source import Source

__all__ = ["Source", "open_pool"]
