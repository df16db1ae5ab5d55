"""The engine: one set of connection settings for SQLite, defaults for PostgreSQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from .errors import DatabaseSettingsError
from .write_lock import FairConnection

# Why each one stands here:
# - synchronous FULL: in WAL mode NORMAL loses the last commits on power loss, and a C-STORE was
#   answered on the strength of that commit.
# - busy_timeout: the fair lock orders our writers; this one covers checkpoints and foreign tools.
# - wal_autocheckpoint, journal_size_limit: a bounded WAL without a separate checkpointer.
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA busy_timeout=30000",
    "PRAGMA foreign_keys=ON",
    "PRAGMA wal_autocheckpoint=1000",
    "PRAGMA journal_size_limit=67108864",
    "PRAGMA mmap_size=0",
)


def create_engine(url: str, *, pool_size: int = 5) -> sa.Engine:
    """Return an engine with the settings that durability and fairness need.

    Parameters
    ----------
    url : str
        ``sqlite:///path`` (a file, never memory: several processes share it) or
        ``postgresql+psycopg://...``.
    pool_size : int, default 5
        Connections that may be open at once.

    Raises
    ------
    DatabaseSettingsError
        If the URL cannot be read or names another database.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise DatabaseSettingsError(f"db.url cannot be read as a database URL: {error}") from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, pool_size)
    if parsed.get_backend_name() == "postgresql":
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=True,
            pool_timeout=30,
            connect_args={"options": "-c timezone=UTC"},
        )
    raise DatabaseSettingsError(
        f"db.url names {parsed.get_backend_name()!r}; use sqlite:/// or postgresql+psycopg://"
    )


def _sqlite(url: sa.URL, pool_size: int) -> sa.Engine:
    if url.database in (None, "", ":memory:"):
        raise DatabaseSettingsError(
            "db.url must name an SQLite file; processes cannot share a memory one"
        )
    Path(url.database or "").absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        connect_args={"factory": FairConnection, "timeout": 30, "check_same_thread": False},
    )
    event.listen(engine, "connect", _configure_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # IMMEDIATE: a deferred transaction that reads and then writes fails under load, at once and
    # whatever the busy timeout.
    connection.isolation_level = "IMMEDIATE"
    for pragma in _PRAGMAS:
        connection.execute(pragma)
