"""Waiting for what another thread or process does, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_for(
    condition: Callable[[], Any],
    seconds: float = 60.0,
    what: str = "condition",
    every: float = 0.1,
) -> Any:
    """Return what a condition gives once it is true; look `every` so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        # Before the look: whoever was held up until after the end looks once more nevertheless.
        is_last = time.monotonic() >= deadline
        value = condition()
        if value:
            return value
        if is_last:
            raise AssertionError(f"{what} did not come true within {seconds:.0f} s")
        time.sleep(every)
