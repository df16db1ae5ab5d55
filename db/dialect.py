"""SQL written once for both drivers, used straight on their PEP 249 cursors.

The rows of images are the one place where SQLAlchemy's executing is left out: it costs 0.2 ms for
each commit, twice what the statements themselves take.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol

import sqlalchemy as sa


class Cursor(Protocol):
    """What is used of a PEP 249 cursor."""

    @property
    def rowcount(self) -> int:
        """How many rows the last statement changed."""

    def execute(self, sql: str, values: Sequence[object] = ..., /) -> Cursor:
        """Run a statement."""

    def executemany(self, sql: str, rows: Sequence[Sequence[object]], /) -> Any:
        """Run a statement for many rows."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows."""


class Dialect:
    """How SQLite or PostgreSQL wants placeholders and times.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        From `db.create_engine`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.is_sqlite = engine.dialect.name == "sqlite"

    def sql(self, text: str) -> str:
        """Return a statement that is written with ``?`` as the driver wants it."""
        return text if self.is_sqlite else _percent(text)

    def time(self, moment: datetime) -> object:
        """Return an aware time as the driver wants it."""
        return _sqlite_text(moment) if self.is_sqlite else moment


@lru_cache(maxsize=256)  # the time of an image goes into three tables
def _sqlite_text(moment: datetime) -> str:
    """Return what the type UtcDateTime writes; plain SQL bypasses it."""
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat(sep=" ", timespec="microseconds")


@lru_cache(maxsize=128)
def _percent(text: str) -> str:
    return text.replace("?", "%s")
