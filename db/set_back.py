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
_WAITS = ("next_attempt_at", "leased_until")


def deliveries(engine: sa.Engine, destination: str, now: datetime, step: timedelta) -> int:
    """Bring nearer what a destination waits for; return how many deliveries.

    Parameters
    ----------
    engine : Engine
    destination : str
    now : datetime
        By the clock that was set back.
    step : timedelta
        By how much.
    """
    mine = _HEALTH.c.destination == destination
    due = sa.and_(_DELIVERY.c.destination == destination, _OPEN)
    with engine.begin() as connection:
        _bring_nearer(connection, _HEALTH, _HEALTH.c.destination, mine, ("open_until",), now, step)
        return _bring_nearer(connection, _DELIVERY, _DELIVERY.c.id, due, _WAITS, now, step)


def notifications(engine: sa.Engine, target: str, now: datetime, step: timedelta) -> int:
    """Bring nearer when a target is told; return of how many analyses. See `deliveries`."""
    due = sa.and_(_NOTIFICATION.c.target == target, _PENDING)
    with engine.begin() as connection:
        return _bring_nearer(connection, _NOTIFICATION, _NOTIFICATION.c.id, due, _WAITS, now, step)


def answers(engine: sa.Engine, now: datetime, step: timedelta) -> int:
    """Bring nearer when senders are told what is kept; return how many. See `deliveries`."""
    with engine.begin() as connection:
        return _bring_nearer(connection, _ASKED, _ASKED.c.id, _UNANSWERED, _WAITS, now, step)


def _bring_nearer(
    connection: sa.Connection,
    table: sa.Table,
    key: sa.Column[Any],
    which: sa.ColumnElement[bool] | sa.TextClause,
    names: tuple[str, ...],
    now: datetime,
    step: timedelta,
) -> int:
    columns = [table.c[name] for name in names]
    ahead = sa.or_(*(column > now for column in columns))
    found = connection.execute(sa.select(key, *columns).where(which, ahead)).all()
    for row in found:
        times = dict(zip(names, row[1:], strict=True))
        nearer = {
            name: max(now, at - step) for name, at in times.items() if at is not None and at > now
        }
        connection.execute(sa.update(table).where(key == row[0]).values(nearer))
    return len(found)
