"""The outbox: result objects on their way to destinations.

A delivery is claimed with a lease, so that a sender that dies leaves it to the next one when the
lease is over. Attempts are counted when they begin: an object that kills its sender ends as a dead
letter like any other. One that could not even begin, because nobody answered, is given back.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from .schema import Analysis, Delivery, DeliveryState, Proof, ResultObject

_LONGEST_ERROR = 1000


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that was claimed, with what is needed to send it and to prove it.

    Attributes
    ----------
    fault : str or None
        Why its object must not be sent.
    root_id : int
        The object of which this one is a fallback, or the object itself.
    """

    id: int
    destination: str
    state: str
    n_attempts: int
    last_error: str | None
    deadline_at: datetime | None
    object_id: int
    root_id: int
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    path: str
    sha256: str
    fault: str | None
    trace_id: str


@dataclass(frozen=True, slots=True)
class Expired:
    """A delivery that was given up at its deadline."""

    id: int
    sop_instance_uid: str
    trace_id: str
    reason: str


_DUE_COLUMNS: tuple[Any, ...] = (
    Delivery.id,
    Delivery.destination,
    Delivery.state,
    Delivery.n_attempts,
    Delivery.last_error,
    Delivery.deadline_at,
    ResultObject.id,
    sa.func.coalesce(ResultObject.fallback_of_id, ResultObject.id),
    ResultObject.kind,
    ResultObject.sop_class_uid,
    ResultObject.sop_instance_uid,
    ResultObject.series_instance_uid,
    Analysis.study_instance_uid,
    ResultObject.path,
    ResultObject.sha256,
    ResultObject.fault,
    Analysis.trace_id,
)
# Literals as in the partial index, so that it is used.
_OPEN = sa.text("delivery.state IN ('pending', 'sent')")


def _is_free(now: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(Delivery.leased_until.is_(None), Delivery.leased_until <= now)


def is_any_due(
    connection: sa.Connection,
    destination: str,
    kinds: Collection[str],
    states: Collection[DeliveryState],
    now: datetime,
) -> bool:
    """Tell whether `claim` or `expire` would find something, without taking a lock."""
    query = (
        sa.select(Delivery.id)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .where(
            Delivery.destination == destination,
            _OPEN,
            Delivery.state.in_(list(states)),
            _is_free(now),
            sa.or_(
                Delivery.deadline_at <= now,
                sa.and_(Delivery.next_attempt_at <= now, ResultObject.kind.in_(list(kinds))),
            ),
        )
        .limit(1)
    )
    return connection.execute(query).first() is not None


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
            _OPEN,
            Delivery.state.in_(list(states)),
            Delivery.next_attempt_at <= now,
            _is_free(now),
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


def expire(
    connection: sa.Connection,
    destination: str,
    states: Collection[DeliveryState],
    now: datetime,
) -> list[Expired]:
    """Make dead letters of what nobody is at and whose deadline has passed."""
    late = (
        Delivery.destination == destination,
        _OPEN,
        Delivery.state.in_(list(states)),
        Delivery.deadline_at <= now,
        _is_free(now),
    )
    rows = connection.execute(
        sa.select(
            Delivery.id,
            ResultObject.sop_instance_uid,
            Analysis.trace_id,
            Delivery.deadline_at,
            Delivery.last_error,
        )
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .join(Analysis, Analysis.id == ResultObject.analysis_id)
        .where(*late)
    ).all()
    given_up = []
    for row in rows:
        reason = at_deadline(row.deadline_at, row.last_error)
        dead = connection.execute(
            sa.update(Delivery)
            .where(Delivery.id == row.id, *late)
            .values(state=DeliveryState.DEAD, leased_until=None, last_error=reason)
        )
        if dead.rowcount:
            given_up.append(Expired(row.id, row.sop_instance_uid, row.trace_id, reason))
    return given_up


def at_deadline(deadline_at: datetime, error: str | None) -> str:
    """Say that a delivery was given up at its deadline, and what was in its way."""
    text = f"given up at its deadline, {deadline_at:%Y-%m-%d %H:%M} UTC"
    return f"{text}: {error}"[:_LONGEST_ERROR] if error else text


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
        values |= {"leased_until": None, "deadline_at": None}
    _update_unproved(connection, delivery_id, values)


def mark_committed(
    connection: sa.Connection, delivery_id: int, now: datetime, proof: Proof
) -> None:
    """Enter that the destination proved to hold the object."""
    values: dict[str, object] = {
        "state": DeliveryState.COMMITTED,
        "proof": proof,
        "committed_at": now,
        "deadline_at": None,
        "leased_until": None,
        "last_error": None,
    }
    _update_unproved(connection, delivery_id, values)


def await_proof(connection: sa.Connection, delivery_id: int, next_attempt_at: datetime) -> None:
    """Leave a sent delivery alone until its proof is asked for in another way."""
    connection.execute(
        sa.update(Delivery)
        # The answer may have come meanwhile, on an association of its own.
        .where(Delivery.id == delivery_id, Delivery.state == DeliveryState.SENT)
        .values(leased_until=None, next_attempt_at=next_attempt_at)
    )


def mark_failed(
    connection: sa.Connection,
    delivery_id: int,
    error: str,
    *,
    status: str | None,
    next_attempt_at: datetime | None,
    counts: bool = True,
) -> bool:
    """Enter a failed attempt; without `next_attempt_at` the delivery becomes a dead letter.

    An attempt that does not count is given back.

    Returns
    -------
    bool
        False if nobody is at the delivery any more: a correction of its study, its proof or
        another sender ended it meanwhile, or a person made it pending again. It stays as it is.
    """
    values: dict[str, object] = {
        "leased_until": None,
        "last_error": error[:_LONGEST_ERROR],
        "last_status": status,
    }
    if next_attempt_at is None:
        values["state"] = DeliveryState.DEAD
    else:
        values["next_attempt_at"] = next_attempt_at
    if not counts:
        values["n_attempts"] = Delivery.n_attempts - 1
    return _update_attempted(connection, delivery_id, values)


def release(connection: sa.Connection, delivery_id: int) -> None:
    """Give back a delivery that was claimed but not tried; it stays due."""
    values: dict[str, object] = {"leased_until": None, "n_attempts": Delivery.n_attempts - 1}
    _update_attempted(connection, delivery_id, values)


def _update_attempted(
    connection: sa.Connection, delivery_id: int, values: dict[str, object]
) -> bool:
    """Enter the end of an attempt, which has its lease until then; tell whether it still had."""
    entered = connection.execute(
        sa.update(Delivery)
        .where(Delivery.id == delivery_id, _OPEN, Delivery.leased_until.is_not(None))
        .values(values)
    )
    return entered.rowcount > 0


def _update_unproved(
    connection: sa.Connection, delivery_id: int, values: dict[str, object]
) -> None:
    """Enter what the destination said, also of a dead letter: that it holds it is what counts."""
    connection.execute(
        sa.update(Delivery)
        # A sender that overslept its lease must not undo what the next one proved.
        .where(Delivery.id == delivery_id, Delivery.state != DeliveryState.COMMITTED)
        .values(values)
    )


def fault_of(connection: sa.Connection, object_id: int) -> str | None:
    """Return why an object must not be sent; None if it may be."""
    return connection.execute(
        sa.select(ResultObject.fault).where(ResultObject.id == object_id)
    ).scalar_one_or_none()


def note_fault(connection: sa.Connection, object_id: int, fault: str) -> None:
    """Enter why an object must not be sent, to any destination."""
    values = {"fault": fault[:_LONGEST_ERROR]}
    connection.execute(sa.update(ResultObject).where(ResultObject.id == object_id).values(values))
