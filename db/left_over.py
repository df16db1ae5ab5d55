"""What waits for destinations and targets that are in the settings no more.

Nobody claims it, so that nobody notices its deadline either. A name may come back: what has no
deadline, or whose deadline is still to come, is left alone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from .schema import (
    Analysis,
    Delivery,
    DeliveryState,
    Notification,
    NotificationState,
    ResultObject,
)

# Literals as in the partial indices, so that they are used.
_OPEN_DELIVERY = sa.text("delivery.state IN ('pending', 'sent')")
_OPEN_NOTIFICATION = sa.text("notification.state = 'pending'")


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A delivery or notification that was given up; `name` is whom it was for."""

    id: int
    name: str
    trace_id: str
    reason: str


def expire_deliveries(
    connection: sa.Connection, known: Collection[str], now: datetime
) -> list[GivenUp]:
    """Make dead letters of deliveries to unknown destinations whose deadline has passed.

    Parameters
    ----------
    known : collection of str
        Names of the destinations of the settings, one for each peer that is replied to.
    """
    late = (
        Delivery.destination.not_in(list(known)),
        _OPEN_DELIVERY,
        Delivery.deadline_at <= now,
        sa.or_(Delivery.leased_until.is_(None), Delivery.leased_until <= now),
    )
    rows = connection.execute(
        sa.select(Delivery.id, Delivery.destination, Analysis.trace_id)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .join(Analysis, Analysis.id == ResultObject.analysis_id)
        .where(*late)
    ).all()
    given_up = [GivenUp(*row, f"destination {_not_there(row[1])}") for row in rows]
    return [
        one
        for one in given_up
        if connection.execute(
            sa.update(Delivery)
            .where(Delivery.id == one.id, *late)
            .values(state=DeliveryState.DEAD, leased_until=None, last_error=one.reason)
        ).rowcount
    ]


def expire_notifications(
    connection: sa.Connection, known: Collection[str], now: datetime
) -> list[GivenUp]:
    """Make dead letters of notifications of unknown targets whose deadline has passed.

    Parameters
    ----------
    known : collection of str
        Names of the targets of the settings.
    """
    late = (
        Notification.target.not_in(list(known)),
        _OPEN_NOTIFICATION,
        Notification.deadline_at <= now,
        sa.or_(Notification.leased_until.is_(None), Notification.leased_until <= now),
    )
    rows = connection.execute(
        sa.select(Notification.id, Notification.target, Analysis.trace_id)
        .join(Analysis, Analysis.id == Notification.analysis_id)
        .where(*late)
    ).all()
    given_up = [GivenUp(*row, f"target {_not_there(row[1])}") for row in rows]
    return [
        one
        for one in given_up
        if connection.execute(
            sa.update(Notification)
            .where(Notification.id == one.id, *late)
            .values(state=NotificationState.DEAD, leased_until=None, last_error=one.reason)
        ).rowcount
    ]


def deliveries_left(connection: sa.Connection, known: Collection[str]) -> dict[str, int]:
    """Return how many deliveries wait for each destination that is not known."""
    return _count(
        connection,
        sa.select(Delivery.destination, sa.func.count())
        .where(
            Delivery.destination.not_in(list(known)),
            Delivery.state == DeliveryState.PENDING,
        )
        .group_by(Delivery.destination),
    )


def notifications_left(connection: sa.Connection, known: Collection[str]) -> dict[str, int]:
    """Return how many notifications wait for each target that is not known."""
    return _count(
        connection,
        sa.select(Notification.target, sa.func.count())
        .where(Notification.target.not_in(list(known)), _OPEN_NOTIFICATION)
        .group_by(Notification.target),
    )


def _count(connection: sa.Connection, query: sa.Select[str, int]) -> dict[str, int]:
    return {row[0]: row[1] for row in sorted(connection.execute(query))}


def _not_there(name: str) -> str:
    return f"{name} is not in the settings any more"
