"""What workers and their engines live through: kept for a while, for those who look after a node.

Nothing of a patient: a reason is what an engine said, and the analysis is named by its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import cast

import sqlalchemy as sa

from .schema import WorkerEvent

# An engine that fails at every batch would fill the database.
MOST_KEPT = 10_000
_KEPT = timedelta(days=90)
_LONGEST_REASON = 1000


class WorkerStep(StrEnum):
    """What can happen to a worker; the first five happen to an engine."""

    SMALLER = "smaller_batch"
    SPARE = "spare_engine"
    DEVICE_LOST = "device_lost"
    POISONED = "poisoned_row"
    EXHAUSTED = "exhausted"
    STUCK = "stuck"
    RECYCLED = "recycled"
    MEMORY_MARK = "memory_mark_too_low"
    ON_CPU = "on_cpu_instead"
    KILLED = "killed"
    CRASHED = "crashed"
    TAKEN_OVER = "taken_over"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class WorkerEventRecord:
    """An event as it is stored.

    Attributes
    ----------
    n_rows : int or None
        Of the batch, where it is about one.
    analysis_id : str or None
        The analysis under way, if it is known.
    """

    at: datetime
    worker: str
    step: str
    reason: str
    engine: str | None = None
    device: str | None = None
    n_rows: int | None = None
    analysis_id: str | None = None


_EVENTS = cast(sa.Table, WorkerEvent.__table__)
_INSERT = sa.insert(_EVENTS)


def add(connection: sa.Connection, events: Sequence[WorkerEventRecord]) -> None:
    """Store events."""
    if events:
        rows = [
            {
                **{name: getattr(one, name) for name in WorkerEventRecord.__slots__},
                "reason": one.reason[:_LONGEST_REASON],
            }
            for one in events
        ]
        connection.execute(_INSERT, rows)


def count(
    connection: sa.Connection,
    step: str,
    *,
    analysis_id: str | None = None,
    device: str | None = None,
    host: str | None = None,
    since: datetime | None = None,
) -> int:
    """Return how many events of a kind are stored, of an analysis or of a device of a host.

    `host` is how the names of its workers begin.
    """
    query = sa.select(sa.func.count()).select_from(_EVENTS).where(_EVENTS.c.step == step)
    if analysis_id is not None:
        query = query.where(_EVENTS.c.analysis_id == analysis_id)
    if device is not None:
        query = query.where(_EVENTS.c.device == device)
    if host is not None:
        query = query.where(_EVENTS.c.worker.startswith(f"{host}-", autoescape=True))
    if since is not None:
        query = query.where(_EVENTS.c.at >= since)
    return int(connection.execute(query).scalar_one())


def latest_reason(
    connection: sa.Connection, steps: Sequence[str], since: datetime
) -> tuple[str, str] | None:
    """Return worker and reason of the latest event of such a kind."""
    query = (
        sa.select(_EVENTS.c.worker, _EVENTS.c.reason)
        .where(_EVENTS.c.step.in_(list(steps)), _EVENTS.c.at >= since)
        .order_by(_EVENTS.c.id.desc())
        .limit(1)
    )
    found = connection.execute(query).first()
    return None if found is None else (found.worker, found.reason)


def prune(connection: sa.Connection, most: int = MOST_KEPT) -> int:
    """Delete events older than 90 days, and the oldest beyond `most`; return how many."""
    old = datetime.now(UTC) - _KEPT
    beyond = (
        sa.select(_EVENTS.c.id).order_by(_EVENTS.c.id.desc()).offset(most).limit(1)
    ).scalar_subquery()
    deleted = connection.execute(
        sa.delete(_EVENTS).where(sa.or_(_EVENTS.c.at < old, _EVENTS.c.id <= beyond))
    )
    return int(deleted.rowcount)
