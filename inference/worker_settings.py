"""How a worker behaves."""

from __future__ import annotations

from dataclasses import dataclass, field

from .memory import MemoryMark


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker behaves.

    Attributes
    ----------
    concurrency : int
        Routine analyses at once.
    stat_slots : int
        STAT analyses at once, beside those.
    timeout_seconds : float
        An analysis that takes longer ends the process; the job is tried again, a few times.
    memory : MemoryMark
        Above it the process ends between analyses.
    silence_seconds : float
        Jobs of a worker silent for so long go to another one.
    grace_seconds : int
        How long running analyses may go on after a request to stop.
    """

    concurrency: int = 1
    stat_slots: int = 1
    timeout_seconds: float = 600.0
    silence_seconds: float = 120.0
    grace_seconds: int = 20
    memory: MemoryMark = field(default_factory=lambda: MemoryMark(0))
