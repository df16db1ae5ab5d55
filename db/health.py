"""Whether destinations can be reached: the state of their circuit breakers.

A destination that cannot be reached again and again is left alone but for one delivery at a time,
so that the others keep their attempts for when it is back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .schema import DestinationHealth


@dataclass(frozen=True, slots=True)
class Health:
    """How a destination does.

    Attributes
    ----------
    n_failures : int
        Failures in a row to reach it.
    open_until : datetime or None
        While it waits: nothing but one probe is tried, and that after this time.
    """

    n_failures: int = 0
    open_until: datetime | None = None
    failing_since: datetime | None = None
    last_error: str | None = None
    last_success_at: datetime | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether deliveries keep their attempts."""
        return self.open_until is not None


_COLUMNS = tuple(getattr(DestinationHealth, name) for name in Health.__slots__)


def load(connection: sa.Connection, destination: str) -> Health:
    """Return the health of a destination; one that was never tried works."""
    row = connection.execute(
        sa.select(*_COLUMNS)
        .where(DestinationHealth.destination == destination)
        # Of two senders one probes.
        .with_for_update()
    ).first()
    return Health(*row) if row is not None else Health()


def hold(connection: sa.Connection, destination: str, until: datetime) -> None:
    """Keep others from probing while one does."""
    connection.execute(
        sa.update(DestinationHealth)
        .where(DestinationHealth.destination == destination)
        .values(open_until=until)
    )


def end_wait(connection: sa.Connection, destination: str, now: datetime) -> None:
    """Let a destination that waits be probed `now`; of one that does not wait nothing changes."""
    connection.execute(
        sa.update(DestinationHealth)
        .where(DestinationHealth.destination == destination, DestinationHealth.open_until > now)
        .values(open_until=now)
    )


def note_failure(
    connection: sa.Connection,
    destination: str,
    error: str,
    now: datetime,
    open_until: datetime | None,
) -> None:
    """Enter that the destination could not be reached; with `open_until` it waits."""
    _put(
        connection,
        destination,
        {
            "n_failures": DestinationHealth.n_failures + 1,
            "open_until": open_until,
            "failing_since": sa.func.coalesce(DestinationHealth.failing_since, now),
            "last_error": error[:1000],
        },
        {"n_failures": 1, "failing_since": now},
    )


def note_reached(
    connection: sa.Connection, destination: str, now: datetime, *, has_taken: bool
) -> None:
    """Enter that the destination answered, and whether it took an object."""
    values: dict[str, object] = {
        "n_failures": 0,
        "open_until": None,
        "failing_since": None,
        "last_error": None,
    }
    if has_taken:
        values["last_success_at"] = now
    _put(connection, destination, values, {})


def _put(
    connection: sa.Connection,
    destination: str,
    values: dict[str, object],
    at_first: dict[str, object],
) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(
        insert(DestinationHealth)
        .values(destination=destination, **{**values, **at_first})
        .on_conflict_do_update(index_elements=["destination"], set_=values)
    )
