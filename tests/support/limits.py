"""The smallest memory limit that a call works with."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest


def smallest_limit(call: Callable[..., Any], *arguments: Any, **options: Any) -> int:
    """As the errors of calls with one byte, and with one byte less than that, say it."""
    with pytest.raises(ValueError, match="memory_limit: 1 bytes are too few") as caught:
        call(*arguments, **options, memory_limit=1)
    least = int(re.search(r"smallest that works is (\d+)", str(caught.value))[1])
    with pytest.raises(ValueError, match=f"{least - 1} bytes .* smallest that works is {least}"):
        call(*arguments, **options, memory_limit=least - 1)
    return least
