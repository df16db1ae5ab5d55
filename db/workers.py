"""Heartbeats of the processes that analyse, and what a silent one leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

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
    host: str
    pid: int
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
        Worker.id,
        Worker.host,
        Worker.pid,
        Worker.device,
        Worker.wanted_device,
        Worker.trouble,
        Worker.seen_at,
    ).order_by(Worker.id)
    return [WorkerSeen(*row) for row in connection.execute(query)]


def beat(connection: sa.Connection, worker_id: str) -> bool:
    """Say that the worker lives; return False if it was given up meanwhile."""
    said = sa.update(Worker).where(Worker.id == worker_id).values(seen_at=datetime.now(UTC))
    return bool(connection.execute(said).rowcount)


def leave(connection: sa.Connection, worker: WorkerIdentity) -> None:
    """Take a worker that ends in good order off the list; the entry of another process stays."""
    own = sa.delete(Worker).where(Worker.id == worker.id, Worker.pid == worker.pid)
    connection.execute(own)


def give_up(connection: sa.Connection, worker: WorkerSeen) -> bool:
    """Take a worker off the list; False if it has spoken since it was seen so, or is gone from it.

    Until the transaction ends nobody can enter under its id.
    """
    given_up = sa.delete(Worker).where(
        Worker.id == worker.id, Worker.pid == worker.pid, Worker.seen_at == worker.seen_at
    )
    return bool(connection.execute(given_up).rowcount)


def worker_of(connection: sa.Connection, host: str, pid: int) -> str | None:
    """Return the id of the worker that is, or was, this process."""
    found = sa.select(Worker.id).where(Worker.host == host, Worker.pid == pid)
    return connection.execute(found).scalar()
