"""A fair write lock for SQLite, between threads and processes.

SQLite's busy handler polls with growing sleeps, so that under steady writing a process that waits
longer also asks more rarely: whole processes starve without an error. Here each connection takes
an ``flock`` on a gate file and then on the lock file before its transaction writes. Whoever holds
the gate is next; everybody else queues at the gate. The kernel frees both when a process dies.

The lock is taken before the statement that opens a write transaction and freed when the
transaction has ended, whoever ends it. It sits in the `sqlite3.Connection` class, so that every
user of the engine takes part, the job engine too.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from typing import Any

_WRITES = (
    "INSERT", "UPDATE", "DELETE", "REPLACE", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE",
    "CREATE", "DROP", "ALTER", "VACUUM", "REINDEX",
)  # fmt: skip
_LONGEST = max(map(len, _WRITES))
_POLL_SECONDS = 0.0003


def _opens_write(sql: str) -> bool:
    return sql.lstrip()[:_LONGEST].upper().startswith(_WRITES)


class FairCursor(sqlite3.Cursor):
    """A cursor that brackets each statement with the connection's write lock."""

    connection: FairConnection

    def execute(self, sql: str, *args: Any) -> FairCursor:
        """Run one statement."""
        connection = self.connection
        connection.require_turn(sql)
        try:
            return super().execute(sql, *args)
        finally:
            connection.release_if_ended()

    def executemany(self, sql: str, *args: Any) -> FairCursor:
        """Run one statement for many rows."""
        connection = self.connection
        connection.require_turn(sql)
        try:
            return super().executemany(sql, *args)
        finally:
            connection.release_if_ended()


class FairConnection(sqlite3.Connection):
    """A connection to a database file whose write transactions queue fairly.

    Attributes
    ----------
    wait_seconds : float
        How long a write may wait for its turn before `sqlite3.OperationalError` is raised.
    """

    wait_seconds = 30.0

    def __init__(self, database: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(database, *args, **kwargs)
        self._held = False
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
        self._gate = os.open(f"{database}.gate", flags, 0o600)
        self._lock = os.open(f"{database}.lock", flags, 0o600)

    def cursor(self, factory: Any = FairCursor) -> Any:
        """Return a cursor that takes part in the lock."""
        return super().cursor(factory)

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        """Run one statement on a new cursor."""
        cursor: sqlite3.Cursor = self.cursor().execute(sql, *args)
        return cursor

    def require_turn(self, sql: str) -> None:
        """Take the lock if this statement opens a write transaction."""
        if not self._held and not self.in_transaction and _opens_write(sql):
            self._acquire()

    def release_if_ended(self) -> None:
        """Free the lock if the transaction has ended."""
        if self._held and not self.in_transaction:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._held = False

    def commit(self) -> None:
        """Commit, then let the next writer in."""
        try:
            super().commit()
        finally:
            self.release_if_ended()

    def rollback(self) -> None:
        """Roll back, then let the next writer in."""
        try:
            super().rollback()
        finally:
            self.release_if_ended()

    def close(self) -> None:
        """Close the database and the lock files (closing frees a lock still held)."""
        super().close()
        self._held = False
        for descriptor in (self._gate, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._gate = self._lock = -1

    def _acquire(self) -> None:
        deadline = time.monotonic() + self.wait_seconds
        _flock(self._gate, deadline)
        try:
            _flock(self._lock, deadline)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        self._held = True


def _flock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise sqlite3.OperationalError("database is locked") from None
            time.sleep(_POLL_SECONDS)
        else:
            return
