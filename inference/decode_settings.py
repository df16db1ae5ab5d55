"""How much decoding may use. Light: the process that receives images imports it."""

from __future__ import annotations

import os
from dataclasses import dataclass

# The network, and whatever else runs on a large machine, has the other cores.
_MOST_PROCESSES = 8


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How much a pool may use.

    Attributes
    ----------
    processes : int
        How many decode at once; 0 decodes in this process, without any of the safety.
    waiting_bytes : int
        Shared memory for decoded images that wait to be taken, of all threads together; besides,
        each thread may always have one image.
    ahead : int
        Images of one thread, at most, that are asked for before they are taken.
    memory_bytes : int
        What each process may have for itself.
    timeout_seconds : float
        An image that takes longer is refused, and its process ended.
    """

    processes: int = 0
    waiting_bytes: int = 256 << 20
    ahead: int = 32
    memory_bytes: int = 4 << 30
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.processes < 0 or self.ahead < 1 or self.waiting_bytes < 0:
            raise ValueError("a decode pool needs 0 or more processes, and images to decode ahead")


def usable_cores() -> int:
    """Return on how many cores this process may run."""
    return len(os.sched_getaffinity(0))


def processes_for(cores: int) -> int:
    """Return how many decode processes a worker on so many cores has, unless a setting says it.

    One at least, for what a decoder does to its process: on few cores it gains no time. Half the
    cores otherwise; the network has the rest.
    """
    return max(1, min(_MOST_PROCESSES, cores // 2))
