"""Heartbeats of the processes that analyse, and what a silent one leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from .schema import Worker


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Who a worker is: a stable id, where it runs and what it has loaded.

    Attributes
    ----------
    wanted_device, trouble : str or None
        The GPU on which it should run, where that is not so, and why not.
    """

    id: str
    host: str
    pid: int
    device: str
    models: tuple[str, ...]
    wanted_device: str | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker as others see it."""

    id: str
    device: str
    wanted_device: str | None
    trouble: str | None
    seen_at: datetime


def enter(connection: sa.Connection, worker: WorkerIdentity) -> None:
    """Announce a worker; one that had this id before is replaced."""
    now = datetime.now(UTC)
    connection.execute(sa.delete(Worker).where(Worker.id == worker.id))
    connection.execute(
        sa.insert(Worker).values(
            id=worker.id,
            host=worker.host,
            pid=worker.pid,
            device=worker.device,
            models=", ".join(worker.models),
            started_at=now,
            seen_at=now,
            wanted_device=worker.wanted_device,
            trouble=worker.trouble,
        )
    )


def set_trouble(connection: sa.Connection, worker_id: str, trouble: str) -> None:
    """Enter why a worker does not run as it should."""
    connection.execute(sa.update(Worker).where(Worker.id == worker_id).values(trouble=trouble))


def workers(connection: sa.Connection) -> list[WorkerSeen]:
    """Return all workers that have not ended in good order."""
    query = sa.select(
        Worker.id, Worker.device, Worker.wanted_device, Worker.trouble, Worker.seen_at
    ).order_by(Worker.id)
    return [WorkerSeen(*row) for row in connection.execute(query)]


def beat(connection: sa.Connection, worker_id: str) -> None:
    """Say that the worker lives."""
    connection.execute(
        sa.update(Worker).where(Worker.id == worker_id).values(seen_at=datetime.now(UTC))
    )


def leave(connection: sa.Connection, worker_id: str) -> None:
    """Take a worker that ends in good order off the list."""
    connection.execute(sa.delete(Worker).where(Worker.id == worker_id))


def sweep_silent(connection: sa.Connection, silence: timedelta) -> tuple[str, ...]:
    """Return the ids of workers silent for so long, and count that they were swept."""
    return tuple(
        connection.execute(
            sa.update(Worker)
            .where(Worker.seen_at < datetime.now(UTC) - silence)
            .values(n_sweeps=Worker.n_sweeps + 1)
            .returning(Worker.id)
        ).scalars()
    )
