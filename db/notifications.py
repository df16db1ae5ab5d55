"""The outbox of notifications: who is to be told of an analysis, and whether they were.

Same manners as `deliveries`: claimed with a lease, attempts counted when they begin, given up as
dead letters. What a message says is not kept but read from the rows of the analysis (`told`), which
do not change any more; only a correction of the study changes whom it names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .schema import Analysis, Notification, NotificationState


@dataclass(frozen=True, slots=True)
class Notified:
    """A target that is to be told, and when that is given up."""

    target: str
    deadline_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DueNotification:
    """A notification that was claimed; `created_at` tells it from an earlier one of its row."""

    id: int
    target: str
    analysis_id: str
    n_attempts: int
    created_at: datetime
    deadline_at: datetime | None
    trace_id: str


@dataclass(frozen=True, slots=True)
class DeadNotification:
    """A notification that was given up: a person has to look at it."""

    id: int
    target: str
    analysis_id: str
    study_instance_uid: str
    n_attempts: int
    last_status: str | None
    last_error: str | None
    created_at: datetime


_DUE_COLUMNS = (
    Notification.id,
    Notification.target,
    Notification.analysis_id,
    Notification.n_attempts,
    Notification.created_at,
    Notification.deadline_at,
    Analysis.trace_id,
)


def add(
    connection: sa.Connection, analysis_id: str, notified: Iterable[Notified], now: datetime
) -> None:
    """Ask for notifications, in the transaction that records the outcome.

    An analysis that a person had made anew after a failure may have told its target of that
    failure: the row then begins again, as another message.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    for one in notified:
        fresh: dict[str, object] = {
            "state": NotificationState.PENDING,
            "n_attempts": 0,
            "next_attempt_at": now,
            "leased_until": None,
            "deadline_at": one.deadline_at,
            "last_status": None,
            "last_error": None,
            "created_at": now,
            "sent_at": None,
        }
        connection.execute(
            insert(Notification)
            .values(analysis_id=analysis_id, target=one.target, **fresh)
            .on_conflict_do_update(index_elements=["analysis_id", "target"], set_=fresh)
        )


def _due(target: str, now: datetime) -> sa.Select[int]:
    return (
        sa.select(Notification.id)
        .join(Analysis, Analysis.id == Notification.analysis_id)
        .where(
            Notification.target == target,
            # A literal as in the partial index, so that it is used.
            sa.text("notification.state = 'pending'"),
            Notification.next_attempt_at <= now,
            sa.or_(Notification.leased_until.is_(None), Notification.leased_until <= now),
            Analysis.finished_at.is_not(None),
        )
    )


def is_any_due(connection: sa.Connection, target: str, now: datetime) -> bool:
    """Tell whether `claim` would find something, without taking a lock."""
    return connection.execute(_due(target, now).limit(1)).first() is not None


def claim(
    connection: sa.Connection,
    target: str,
    *,
    now: datetime,
    leased_until: datetime,
    limit: int = 1,
) -> list[DueNotification]:
    """Lease notifications that are due, the longest due first; each counts one attempt.

    One whose analysis a person sent back to work waits for the new outcome.
    """
    chosen = (
        _due(target, now)
        .order_by(Notification.next_attempt_at, Notification.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=Notification)
    )
    claimed = connection.execute(
        sa.update(Notification)
        .where(Notification.id.in_(chosen))
        .values(leased_until=leased_until, n_attempts=Notification.n_attempts + 1)
        .returning(Notification.id)
    ).scalars()
    rows = connection.execute(
        sa.select(*_DUE_COLUMNS)
        .join(Analysis, Analysis.id == Notification.analysis_id)
        .where(Notification.id.in_(list(claimed)))
        .order_by(Notification.next_attempt_at, Notification.id)
    )
    return [DueNotification(*row) for row in rows]


def mark_sent(connection: sa.Connection, due: DueNotification, status: str, now: datetime) -> None:
    """Enter that the target accepted the notification."""
    connection.execute(
        _update(due).values(
            state=NotificationState.SENT,
            sent_at=now,
            leased_until=None,
            last_status=status,
            last_error=None,
        )
    )


def mark_failed(
    connection: sa.Connection,
    due: DueNotification,
    error: str,
    *,
    status: str | None,
    next_attempt_at: datetime | None,
) -> None:
    """Enter a failed attempt; without `next_attempt_at` the notification is a dead letter."""
    values: dict[str, object] = {
        "leased_until": None,
        "last_error": error[:1000],
        "last_status": status,
    }
    if next_attempt_at is None:
        values["state"] = NotificationState.DEAD
    else:
        values["next_attempt_at"] = next_attempt_at
    # A sender that overslept its lease must not undo what the next one achieved.
    connection.execute(
        _update(due).where(Notification.state != NotificationState.SENT).values(values)
    )


def _update(due: DueNotification) -> sa.Update:
    # The row may have begun again with a new outcome meanwhile: that one was not sent.
    return sa.update(Notification).where(
        Notification.id == due.id, Notification.created_at == due.created_at
    )


def list_dead(
    connection: sa.Connection, target: str | None = None, limit: int = 1000
) -> list[DeadNotification]:
    """Return dead letters, the oldest first."""
    query = (
        sa.select(
            Notification.id,
            Notification.target,
            Notification.analysis_id,
            Analysis.study_instance_uid,
            Notification.n_attempts,
            Notification.last_status,
            Notification.last_error,
            Notification.created_at,
        )
        .join(Analysis, Analysis.id == Notification.analysis_id)
        .where(Notification.state == NotificationState.DEAD)
        .order_by(Notification.id)
        .limit(limit)
    )
    if target is not None:
        query = query.where(Notification.target == target)
    return [DeadNotification(*row) for row in connection.execute(query)]


def retry(connection: sa.Connection, notification_id: int, now: datetime) -> bool:
    """Give a dead letter all its attempts and all its time again; False if it is not dead."""
    row = connection.execute(
        sa.select(Notification.created_at, Notification.deadline_at).where(
            Notification.id == notification_id, Notification.state == NotificationState.DEAD
        )
    ).first()
    if row is None:
        return False
    deadline = None if row.deadline_at is None else now + (row.deadline_at - row.created_at)
    revived = connection.execute(
        sa.update(Notification)
        .where(Notification.id == notification_id, Notification.state == NotificationState.DEAD)
        .values(
            state=NotificationState.PENDING,
            n_attempts=0,
            next_attempt_at=now,
            deadline_at=deadline,
            leased_until=None,
        )
        .returning(Notification.id)
    )
    return revived.first() is not None
