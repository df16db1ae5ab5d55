"""Time as it passes, and as the processors spend it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds for one row."""

    wall: float
    cpu: float


def spend(work: Callable[[], object], rows: int) -> Spent:
    """Carry out work on some rows."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent((time.perf_counter() - wall) / rows, (time.process_time() - cpu) / rows)
