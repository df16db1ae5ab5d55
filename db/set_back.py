"""Times that are still to come, when the clock was set back: what waits, waits no longer for that.

A clock that was an hour ahead has left deliveries, messages and answers to senders that would be
tried in an hour.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa

from .schema import CommitmentAsked, Delivery, DestinationHealth, Notification

_DELIVERY = cast(sa.Table, Delivery.__table__)
_HEALTH = cast(sa.Table, DestinationHealth.__table__)
_ASKED = cast(sa.Table, CommitmentAsked.__table__)
_NOTIFICATION = cast(sa.Table, Notification.__table__)
# Literals as in the partial indices, so that they are used.
_OPEN = sa.text("delivery.state IN ('pending', 'sent')")
_UNANSWERED = sa.text("commitment_asked.state = 'pending'")
_PENDING = sa.text("notification.state = 'pending'")
_Which = sa.ColumnElement[bool] | sa.TextClause


def deliveries(
    engine: sa.Engine, destination: str, now: datetime, lease: timedelta, step: timedelta
) -> None:
    """Bring nearer what a destination waits for.

    Parameters
    ----------
    engine : Engine
    destination : str
    now : datetime
        By the clock that was set back.
    lease : timedelta
        The longest: one that ends within it may have been taken since.
    step : timedelta
        By how much; more, if there is what was entered later than now.
    """
    mine = _HEALTH.c.destination == destination
    due = sa.and_(_DELIVERY.c.destination == destination, _OPEN)
    with engine.begin() as connection:
        step = max(step, _told_by(connection, _DELIVERY.c.created_at, due, now))
        _bring_nearer(connection, _HEALTH.c.open_until, mine, now, now, step)
        _both(connection, _DELIVERY, due, now, lease, step)


def notifications(
    engine: sa.Engine, target: str, now: datetime, lease: timedelta, step: timedelta
) -> None:
    """Bring nearer when a target is told. See `deliveries`."""
    due = sa.and_(_NOTIFICATION.c.target == target, _PENDING)
    with engine.begin() as connection:
        step = max(step, _told_by(connection, _NOTIFICATION.c.created_at, due, now))
        _both(connection, _NOTIFICATION, due, now, lease, step)


def answers(engine: sa.Engine, now: datetime, lease: timedelta, step: timedelta) -> None:
    """Bring nearer when senders are told what is kept. See `deliveries`."""
    with engine.begin() as connection:
        step = max(step, _told_by(connection, _ASKED.c.received_at, _UNANSWERED, now))
        _both(connection, _ASKED, _UNANSWERED, now, lease, step)


def _told_by(
    connection: sa.Connection, entered_at: sa.Column[Any], which: _Which, now: datetime
) -> timedelta:
    """Return by how much the clock went back at least, also before this process began."""
    latest = connection.execute(sa.select(sa.func.max(entered_at)).where(which)).scalar()
    return timedelta(0) if latest is None else max(timedelta(0), latest - now)


def _both(
    connection: sa.Connection,
    table: sa.Table,
    which: _Which,
    now: datetime,
    lease: timedelta,
    step: timedelta,
) -> None:
    _bring_nearer(connection, table.c.next_attempt_at, which, now, now, step)
    _bring_nearer(connection, table.c.leased_until, which, now, now + lease, step)


def _bring_nearer(
    connection: sa.Connection,
    column: sa.Column[Any],
    which: _Which,
    now: datetime,
    later_than: datetime,
    step: timedelta,
) -> None:
    if not step:
        return
    (key,) = column.table.primary_key.columns
    found = connection.execute(sa.select(key, column).where(which, column > later_than)).all()
    for row_id, at in found:
        nearer = sa.update(column.table).where(key == row_id, column == at)
        connection.execute(nearer.values({column.name: max(now, at - step)}))
