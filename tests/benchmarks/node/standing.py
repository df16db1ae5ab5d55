"""What the parts of a node hold in memory: after the start, and after a study of each kind."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from field import Field, memory_mb, wait_for
from images import Studies

PARTS = ("scp", "worker", "deliver")


@dataclass(frozen=True, slots=True)
class Standing:
    """Resident memory in MB of each part; of the worker also what is its own (anonymous).

    Attributes
    ----------
    start_seconds : float
        From the start of the worker's process until it takes jobs.
    """

    start_seconds: float
    at_start: dict[str, float]
    own_at_start: float
    later: dict[str, float]
    own_later: float


def run(folder: Path) -> Standing:
    """Start a node on SQLite with the shipped models; read one X-ray and one head CT."""
    with Field(folder, scp="quiet_seconds = 0.5") as field:
        field.start("scp")
        field.start("deliver")
        began = time.monotonic()
        field.start("worker")
        field.wait_for_workers()
        seconds = time.monotonic() - began
        time.sleep(1)
        at_start, own_at_start = _memory(field), memory_mb(field.pid("worker"), "RssAnon")
        studies = Studies()
        field.send([studies.film()])
        field.send(studies.head())
        wait_for(lambda: field.n_in("done") == 2, 120, "two analyses")
        time.sleep(1)
        own_later = memory_mb(field.pid("worker"), "RssAnon")
        return Standing(seconds, at_start, own_at_start, _memory(field), own_later)


def _memory(field: Field) -> dict[str, float]:
    return {part: memory_mb(field.pid(part)) for part in PARTS}
