"""Deliveries that were given up: what a person sees of them, and how they are tried again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from .corrections import FINAL_FAULT
from .schema import Analysis, CommitmentSought, Delivery, DeliveryState, ResultObject


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


@dataclass(frozen=True, slots=True)
class Letter:
    """Everything that is known of one delivery.

    Attributes
    ----------
    fault : str or None
        Why the object must not be sent.
    refusals : tuple of str
        Failure Reasons (0008,1197) of storage commitments, the oldest first.
    n_unanswered : int
        Storage commitment requests without an answer.
    replaced_by : str or None
        SOP Instance UID of the object that took its place after a correction of the study.
    """

    id: int
    destination: str
    state: str
    proof: str | None
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    analysis_id: str
    path: str
    fault: str | None
    n_attempts: int
    last_status: str | None
    last_error: str | None
    created_at: datetime
    next_attempt_at: datetime
    deadline_at: datetime | None
    sent_at: datetime | None
    committed_at: datetime | None
    refusals: tuple[str, ...] = ()
    n_unanswered: int = 0
    replaced_by: str | None = None


_LETTER: tuple[Any, ...] = (
    Delivery.id, Delivery.destination, Delivery.state, Delivery.proof, ResultObject.kind,
    ResultObject.sop_class_uid, ResultObject.sop_instance_uid, Analysis.study_instance_uid,
    ResultObject.analysis_id, ResultObject.path, ResultObject.fault, Delivery.n_attempts,
    Delivery.last_status, Delivery.last_error, Delivery.created_at, Delivery.next_attempt_at,
    Delivery.deadline_at, Delivery.sent_at, Delivery.committed_at,
)  # fmt: skip


# The one that takes the place of an object, or of that of which it is the fallback.
_Later = sa.orm.aliased(ResultObject)
_REPLACES = _Later.predecessor_id == sa.func.coalesce(ResultObject.fallback_of_id, ResultObject.id)


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


def destinations_of_dead(connection: sa.Connection) -> list[str]:
    """Return the destinations that have dead letters."""
    query = sa.select(Delivery.destination).where(Delivery.state == DeliveryState.DEAD).distinct()
    return sorted(connection.execute(query).scalars())


def explain(connection: sa.Connection, delivery_id: int) -> Letter | None:
    """Return what is known of a delivery, or None if there is none of that number."""
    later = sa.select(_Later.sop_instance_uid).where(_REPLACES).limit(1).scalar_subquery()
    row: Any = connection.execute(
        sa.select(*_LETTER, later)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .join(Analysis, Analysis.id == ResultObject.analysis_id)
        .where(Delivery.id == delivery_id)
    ).first()
    if row is None:
        return None
    asked = connection.execute(
        sa.select(CommitmentSought.answered_at, CommitmentSought.failure_reason)
        .where(CommitmentSought.delivery_id == delivery_id)
        .order_by(CommitmentSought.requested_at)
    ).all()
    refusals = tuple(one.failure_reason for one in asked if one.failure_reason is not None)
    n_unanswered = sum(one.answered_at is None for one in asked)
    return replace(
        Letter(*row[:-1]), refusals=refusals, n_unanswered=n_unanswered, replaced_by=row[-1]
    )


def retry(
    connection: sa.Connection,
    now: datetime,
    *,
    delivery_id: int | None = None,
    destination: str | None = None,
    deadline_hours: float | None = None,
) -> int:
    """Give dead letters all their attempts again, and their objects another check.

    Those that a correction of the study has ended stay dead: they are about the wrong patient or
    request.

    Parameters
    ----------
    delivery_id, destination
        Which ones; without either all of them.
    deadline_hours : float or None
        When they are given up again; None for never.

    Returns
    -------
    int
        How many are pending again.
    """
    meant = [Delivery.state == DeliveryState.DEAD]
    if delivery_id is not None:
        meant.append(Delivery.id == delivery_id)
    if destination is not None:
        meant.append(Delivery.destination == destination)
    later = sa.orm.aliased(ResultObject)
    root = sa.func.coalesce(ResultObject.fallback_of_id, ResultObject.id)
    ended = sa.select(ResultObject.id).where(
        sa.or_(
            ResultObject.fault.startswith(FINAL_FAULT, autoescape=True),
            sa.exists().where(later.predecessor_id == root),
        )
    )
    meant.append(Delivery.result_object_id.not_in(ended))
    # What was wrong may have been mended, such as a file that was brought back from a backup.
    connection.execute(
        sa.update(ResultObject)
        .where(
            ResultObject.fault.is_not(None),
            ResultObject.id.in_(sa.select(Delivery.result_object_id).where(*meant)),
        )
        .values(fault=None)
    )
    revived = connection.execute(
        sa.update(Delivery)
        .where(*meant)
        .values(
            state=DeliveryState.PENDING,
            n_attempts=0,
            next_attempt_at=now,
            deadline_at=None if deadline_hours is None else now + timedelta(hours=deadline_hours),
            leased_until=None,
        )
    )
    return revived.rowcount
