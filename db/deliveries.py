"""The outbox: result objects on their way to destinations.

A delivery is claimed with a lease, so that a sender that dies leaves it to the next one when the
lease is over. Attempts are counted when they begin: an object that kills its sender ends as a dead
letter like any other.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from .schema import Analysis, Delivery, DeliveryState, ResultObject


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that was claimed, with what is needed to send it and to prove it."""

    id: int
    destination: str
    state: str
    n_attempts: int
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    path: str
    trace_id: str


@dataclass(frozen=True, slots=True)
class DeadDelivery:
    """A delivery that was given up: a person has to look at it."""

    id: int
    destination: str
    kind: str
    sop_instance_uid: str
    study_instance_uid: str
    n_attempts: int
    last_status: str | None
    last_error: str | None
    created_at: datetime


_DUE_COLUMNS = (
    Delivery.id,
    Delivery.destination,
    Delivery.state,
    Delivery.n_attempts,
    ResultObject.kind,
    ResultObject.sop_class_uid,
    ResultObject.sop_instance_uid,
    ResultObject.series_instance_uid,
    Analysis.study_instance_uid,
    ResultObject.path,
    Analysis.trace_id,
)


def claim(
    connection: sa.Connection,
    destination: str,
    kinds: Collection[str],
    states: Collection[DeliveryState],
    *,
    now: datetime,
    leased_until: datetime,
    limit: int = 16,
) -> list[DueDelivery]:
    """Lease deliveries that are due, the longest due first; each counts one attempt.

    Parameters
    ----------
    kinds : collection of str
        Kinds of result objects that the destination receives.
    states : collection of DeliveryState
        PENDING to send; SENT too where a sent object still has to be proved.
    """
    chosen = (
        sa.select(Delivery.id)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .where(
            Delivery.destination == destination,
            # Literals as in the partial index, so that it is used.
            sa.text("delivery.state IN ('pending', 'sent')"),
            Delivery.state.in_(list(states)),
            Delivery.next_attempt_at <= now,
            sa.or_(Delivery.leased_until.is_(None), Delivery.leased_until <= now),
            ResultObject.kind.in_(list(kinds)),
        )
        .order_by(Delivery.next_attempt_at, Delivery.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=Delivery)
    )
    claimed = connection.execute(
        sa.update(Delivery)
        .where(Delivery.id.in_(chosen))
        .values(leased_until=leased_until, n_attempts=Delivery.n_attempts + 1)
        .returning(Delivery.id)
    ).scalars()
    rows = connection.execute(
        sa.select(*_DUE_COLUMNS)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .join(Analysis, Analysis.id == ResultObject.analysis_id)
        .where(Delivery.id.in_(list(claimed)))
        .order_by(Delivery.next_attempt_at, Delivery.id)
    )
    return [DueDelivery(*row) for row in rows]


def mark_sent(
    connection: sa.Connection, delivery_id: int, status: str, now: datetime, *, final: bool
) -> None:
    """Enter that the destination stored the object; `final` when no proof is wanted.

    Without `final` the lease is kept: whoever sent it goes on to prove it.
    """
    values: dict[str, object] = {
        "state": DeliveryState.SENT,
        "sent_at": now,
        "last_status": status,
        "last_error": None,
    }
    if final:
        values["leased_until"] = None
    connection.execute(sa.update(Delivery).where(Delivery.id == delivery_id).values(values))


def mark_committed(connection: sa.Connection, delivery_id: int, now: datetime) -> None:
    """Enter that the destination proved to hold the object."""
    connection.execute(
        sa.update(Delivery)
        .where(Delivery.id == delivery_id)
        .values(state=DeliveryState.COMMITTED, committed_at=now, leased_until=None, last_error=None)
    )


def mark_failed(
    connection: sa.Connection,
    delivery_id: int,
    error: str,
    *,
    status: str | None,
    next_attempt_at: datetime | None,
) -> None:
    """Enter a failed attempt; without `next_attempt_at` the delivery becomes a dead letter."""
    values: dict[str, object] = {
        "leased_until": None,
        "last_error": error[:1000],
        "last_status": status,
    }
    if next_attempt_at is None:
        values["state"] = DeliveryState.DEAD
    else:
        values["next_attempt_at"] = next_attempt_at
    connection.execute(
        sa.update(Delivery)
        # A sender that overslept its lease must not undo what the next one proved.
        .where(Delivery.id == delivery_id, Delivery.state != DeliveryState.COMMITTED)
        .values(values)
    )


def list_dead(
    connection: sa.Connection, destination: str | None = None, limit: int = 1000
) -> list[DeadDelivery]:
    """Return dead letters, the oldest first."""
    query = (
        sa.select(
            Delivery.id,
            Delivery.destination,
            ResultObject.kind,
            ResultObject.sop_instance_uid,
            Analysis.study_instance_uid,
            Delivery.n_attempts,
            Delivery.last_status,
            Delivery.last_error,
            Delivery.created_at,
        )
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .join(Analysis, Analysis.id == ResultObject.analysis_id)
        .where(Delivery.state == DeliveryState.DEAD)
        .order_by(Delivery.id)
        .limit(limit)
    )
    if destination is not None:
        query = query.where(Delivery.destination == destination)
    return [DeadDelivery(*row) for row in connection.execute(query)]


def retry(connection: sa.Connection, delivery_id: int, now: datetime) -> bool:
    """Give a dead letter all its attempts again; False if it is not dead."""
    revived = connection.execute(
        sa.update(Delivery)
        .where(Delivery.id == delivery_id, Delivery.state == DeliveryState.DEAD)
        .values(state=DeliveryState.PENDING, n_attempts=0, next_attempt_at=now, leased_until=None)
        .returning(Delivery.id)
    )
    return revived.first() is not None
