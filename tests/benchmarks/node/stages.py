"""One X-ray on an idle node: from the last C-STORE response to the report proved in the PACS."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from archives import Archive, archive
from field import Field, cpu_seconds, database, free_port, wait_for
from images import Studies
from raw_pdus import Instance

QUIET_SECONDS = 1.0
# In the order in which they follow each other; together they are the whole time.
STAGES = (
    "quiet time, series complete",
    "routed and enqueued",
    "analysis started",
    "reading (model time)",
    "objects made, recorded",
    "delivery begun",
    "stored in the PACS",
    "proved",
)
MODEL = "reading (model time)"
_IDLE_SECONDS = 20.0
_WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds of each stage; None where the archive cannot tell and the next one has both."""

    seconds: tuple[float | None, ...]

    @property
    def total(self) -> float:
        return sum(one for one in self.seconds if one is not None)

    @property
    def model(self) -> float:
        return self.seconds[STAGES.index(MODEL)] or 0.0

    @property
    def beyond(self) -> float:
        """What is neither quiet time nor model time: the goal is for this."""
        return self.total - QUIET_SECONDS - self.model


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the proof, and its rounds.

    Attributes
    ----------
    idle_cpu : dict of str to float
        Processor use of each part while nothing is to do, in percent of a core.
    """

    database: str
    archive: str
    proof: str
    rounds: tuple[Round, ...]
    idle_cpu: dict[str, float]

    @property
    def title(self) -> str:
        return f"{self.archive}, {self.proof}, {self.database}"

    def stage(self, number: int) -> float | None:
        values = [one.seconds[number] for one in self.rounds]
        known = [value for value in values if value is not None]
        return median(known) if known else None


def run(folder: Path, on: str, archive_name: str, proof: str, rounds: int, *, idle: bool) -> Way:
    """Measure one way; the node is started for it."""
    port = free_port()
    with database(on) as url, archive(archive_name, folder / "archive", port) as pacs:
        field = Field(folder / "node", url, pacs.lines(proof), f"quiet_seconds = {QUIET_SECONDS}",
                      port=port)  # fmt: skip
        with field:
            field.start("up")
            field.wait_for_workers()
            studies = Studies()
            for _ in range(_WARM_UP):
                _round(field, pacs, studies.film())
            idle_cpu = _idle_cpu(field) if idle else {}
            taken = tuple(_round(field, pacs, studies.film()) for _ in range(rounds))
    return Way(on, archive_name, proof, taken, idle_cpu)


def _idle_cpu(field: Field) -> dict[str, float]:
    time.sleep(1)
    pids = field.node.part_pids()
    before, began = {name: cpu_seconds(pid) for name, pid in pids.items()}, time.monotonic()
    time.sleep(_IDLE_SECONDS)
    passed = time.monotonic() - began
    return {name: 100 * (cpu_seconds(pid) - before[name]) / passed for name, pid in pids.items()}


def _round(field: Field, pacs: Archive, film: Instance) -> Round:
    pacs.forget()
    answered = _store(field, film)
    proved = wait_for(lambda: _proved(field, film), 60, "the proof of the report", every=0.05)
    trace, completed = field.node.query(
        "SELECT s.trace_id, s.completed_at FROM series s JOIN instance i "
        "ON i.series_instance_uid = s.series_instance_uid WHERE i.sop_instance_uid = ?",
        film.sop_instance_uid,
    )[0]
    said = {
        one["event"]: seconds_of(one["timestamp"])
        for one in field.node.events()
        if one.get("trace") == trace and one["event"].startswith(("series.", "analysis."))
    }
    sent_at, committed_at = proved
    marks = [
        answered,
        seconds_of(completed),
        said["series.completed"],
        said["analysis.started"],
        said.get("analysis.read"),
        said["analysis.ended"],
        pacs.called_at(),
        sent_at,
        committed_at,
    ]
    # Let everything that belongs to the picture, too, come to its end.
    wait_for(lambda: _all_proved(field), 60, "the proof of all objects", every=0.05)
    return Round(_between(marks))


def _store(field: Field, film: Instance) -> float:
    """Send one film; return when the response to its C-STORE came."""
    from raw_scu import RawAssociation

    with RawAssociation(field.node.port, [film.context], calling="MODALITY") as opened:
        status = opened.store(film, size=1 << 17)
        answered = time.time()
        assert status == 0, f"C-STORE answered with 0x{status:04X}"
    return answered


_REPORT = (
    "SELECT d.sent_at, d.committed_at FROM delivery d "
    "JOIN result_object o ON o.id = d.result_object_id "
    "JOIN analysis a ON a.id = o.analysis_id "
    "JOIN analysis_instance ai ON ai.analysis_id = a.id "
    "JOIN instance i ON i.id = ai.instance_id "
    "WHERE i.sop_instance_uid = ? AND o.kind = 'sr' AND d.committed_at IS NOT NULL"
)


def _proved(field: Field, film: Instance) -> tuple[float, float] | None:
    rows = field.node.query(_REPORT, film.sop_instance_uid)
    return (seconds_of(rows[0][0]), seconds_of(rows[0][1])) if rows else None


def _all_proved(field: Field) -> bool:
    open_ones = "SELECT COUNT(*) FROM delivery WHERE state <> 'committed'"
    return field.scalar(open_ones) == 0


def _between(marks: Sequence[float | None]) -> tuple[float | None, ...]:
    """The time between neighbours; what has no mark is counted to the one after it."""
    stages: list[float | None] = []
    last = marks[0]
    assert last is not None
    for mark in marks[1:]:
        if mark is None:
            stages.append(None)
        else:
            stages.append(mark - last)
            last = mark
    return tuple(stages)


def seconds_of(value: Any) -> float:
    """A time of the log or of either database, as seconds."""
    parsed = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
