"""The engine: one set of connection settings for SQLite, defaults for PostgreSQL."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.util import asbool

from .errors import DatabaseSettingsError
from .write_lock import FairConnection

# Why each one stands here:
# - synchronous FULL: in WAL mode NORMAL loses the last commits on power loss, and a C-STORE was
#   answered on the strength of that commit. `FairConnection.sync_here` sets NORMAL nevertheless,
#   and syncs each commit when the next writer has been let in; SQLite's FULL does so before.
# - busy_timeout (below): the fair lock orders our writers; this one covers checkpoints and foreign
#   tools.
# - wal_autocheckpoint, journal_size_limit: a bounded WAL without a separate checkpointer.
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA wal_autocheckpoint=1000",
    "PRAGMA journal_size_limit=67108864",
    "PRAGMA mmap_size=0",
)


def create_engine(
    url: str,
    *,
    pool_size: int = 5,
    wait_seconds: float = 30.0,
    statement_seconds: float | None = None,
    idle_seconds: float = 60.0,
) -> sa.Engine:
    """Return an engine with the settings that durability and fairness need.

    Parameters
    ----------
    url : str
        ``sqlite:///path`` (a file, never memory: several processes share it) or
        ``postgresql+psycopg://...``.
    pool_size : int, default 5
        Connections that may be open at once.
    wait_seconds : float, default 30
        How long to wait for a connection, for a lock, or for a network that is silent.
    statement_seconds : float or None
        How long one statement may take on PostgreSQL; None for no limit.
    idle_seconds : float, default 60
        After what silence within a transaction PostgreSQL gives it up: who was frozen, or whose
        host is gone without a word, holds its locks for no longer.

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
        return _sqlite(parsed, pool_size, wait_seconds)
    if parsed.get_backend_name() == "postgresql":
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=True,
            pool_timeout=wait_seconds,
            connect_args=_postgresql_arguments(
                parsed, wait_seconds, statement_seconds, idle_seconds
            ),
        )
    raise DatabaseSettingsError(
        f"db.url names {parsed.get_backend_name()!r}; use sqlite:/// or postgresql+psycopg://"
    )


def _postgresql_arguments(
    url: sa.URL, wait_seconds: float, statement_seconds: float | None, idle_seconds: float
) -> dict[str, object]:
    """Return what libpq is told; what the URL says itself stands."""
    whole = math.ceil(wait_seconds)
    options = f"-c timezone=UTC -c lock_timeout={round(wait_seconds * 1000)}"
    options += f" -c idle_in_transaction_session_timeout={round(idle_seconds * 1000)}"
    if statement_seconds is not None:
        options += f" -c statement_timeout={round(statement_seconds * 1000)}"
    arguments: dict[str, object] = {
        "connect_timeout": max(2, whole),  # libpq takes no less
        "keepalives_idle": max(1, whole // 2),
        "keepalives_interval": max(1, whole // 6),
        "keepalives_count": 3,
        # A server or network that is gone without a word is noticed by what is not acknowledged.
        "tcp_user_timeout": whole * 1000,
    }
    own = {key: value for key, value in arguments.items() if key not in url.query}
    return {**own, "options": f"{url.query.get('options', '')} {options}".strip()}


def _file(url: sa.URL) -> Path:
    """Return where an SQLite database lies; with ``uri=true`` SQLite takes ``file:/x`` as a URI.

    Raises
    ------
    DatabaseSettingsError
        If it lies in no file, or looks like a URI and is not said to be one.
    """
    database, said = url.database or "", url.normalized_query
    if database.startswith("file:"):
        # Else the file would lie in a folder that is named "file:".
        if not asbool(url.query.get("uri", "false")):
            raise DatabaseSettingsError("db.url names an SQLite file as a URI: add ?uri=true to it")
        database = unquote(urlsplit(database).path)
    in_memory = "memory" in said.get("mode", ()) or "memdb" in said.get("vfs", ())
    if database in ("", ":memory:") or in_memory:
        raise DatabaseSettingsError(
            "db.url must name an SQLite file; processes cannot share a memory one"
        )
    return Path(database).absolute()


def _sqlite(url: sa.URL, pool_size: int, wait_seconds: float) -> sa.Engine:
    _file(url).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=wait_seconds,
        connect_args={
            "factory": FairConnection,
            "timeout": wait_seconds,
            "check_same_thread": False,
        },
    )

    def configure(connection: FairConnection, _record: Any) -> None:
        # IMMEDIATE: a deferred transaction that reads and then writes fails under load, at once
        # and whatever the busy timeout.
        connection.isolation_level = "IMMEDIATE"
        connection.wait_seconds = wait_seconds
        for pragma in (f"PRAGMA busy_timeout={round(wait_seconds * 1000)}", *_PRAGMAS):
            connection.execute(pragma)
        connection.sync_here()

    event.listen(engine, "connect", configure)
    return engine
