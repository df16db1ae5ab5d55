"""The association ledger: one row for each association that a peer opened, with what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from .schema import Association, AssociationEnd


@dataclass(frozen=True, slots=True)
class AssociationRecord:
    """An association as it was accepted."""

    id: str
    acceptor: str
    calling_ae: str
    called_ae: str
    peer_host: str
    peer_port: int
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class AssociationCounts:
    """What an association brought: instances stored, instances refused, bytes of both."""

    n_received: int = 0
    n_refused: int = 0
    n_bytes: int = 0


def open_association(connection: sa.Connection, record: AssociationRecord) -> None:
    """Enter an association that was accepted."""
    connection.execute(sa.insert(Association).values(_opening(record)))


def close_association(
    connection: sa.Connection,
    record: AssociationRecord,
    counts: AssociationCounts,
    ended_at: datetime,
    ended_by: AssociationEnd,
) -> None:
    """Enter how an association ended; the first end counts.

    The whole record is asked for because the database may have been away when the association was
    opened: then its row is made now.
    """
    ending = {
        "ended_at": ended_at,
        "ended_by": ended_by,
        "n_received": counts.n_received,
        "n_refused": counts.n_refused,
        "n_bytes": counts.n_bytes,
    }
    closed = connection.execute(
        sa.update(Association)
        .where(Association.id == record.id)
        .values({column: _unless_ended(column, value) for column, value in ending.items()})
        .returning(Association.id)
    )
    if closed.first() is None:
        connection.execute(sa.insert(Association).values({**_opening(record), **ending}))


def close_lost(connection: sa.Connection, acceptor: str, ended_at: datetime) -> int:
    """Close what a killed process of this acceptor left open, as lost; return how many."""
    lost = connection.execute(
        sa.update(Association)
        .where(Association.acceptor == acceptor, Association.ended_at.is_(None))
        .values(ended_at=ended_at, ended_by=AssociationEnd.LOST)
        .returning(Association.id)
    )
    return len(lost.all())


def _opening(record: AssociationRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "acceptor": record.acceptor[:128],
        "calling_ae": record.calling_ae[:16],
        "called_ae": record.called_ae[:16],
        "peer_host": record.peer_host[:64],
        "peer_port": record.peer_port,
        "opened_at": record.opened_at,
    }


def _unless_ended(column: str, value: object) -> sa.ColumnElement[object]:
    known = sa.inspect(Association).columns[column]
    return sa.case((Association.ended_at.is_(None), sa.literal(value, known.type)), else_=known)
