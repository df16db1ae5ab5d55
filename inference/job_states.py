"""Jobs as we speak of them, whatever engine runs them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Priority(StrEnum):
    """Which queued analysis goes first."""

    STAT = "stat"
    ROUTINE = "routine"


class JobState(StrEnum):
    """Where the engine has a job."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    CANCELLED = "cancelled"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt series of one analysis, as the engine sees it."""

    id: str
    analysis_id: str
    state: JobState
    attempts: int
    executor: str | None
