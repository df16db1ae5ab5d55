"""A fair write lock for SQLite, between threads and processes.

SQLite's busy handler polls with growing sleeps, so that under steady writing a process that waits
longer also asks more rarely: whole processes starve without an error. Here each connection takes
an ``flock`` on a gate file and then on the lock file before its transaction writes. Whoever holds
the gate is next; everybody else queues at the gate. The kernel frees both when a process dies.

The lock is taken before the statement that opens a write transaction and freed when the
transaction has ended, whoever ends it. It sits in the `sqlite3.Connection` class, so that every
user of the engine takes part, the job engine too.

SQLite itself syncs the write-ahead log before it lets others write (``synchronous=FULL``), and so
the disk's time is everybody's: the last of four writers waits for four syncs. Here the next one
writes while the log is synced, and a commit returns when what it wrote is on disk. Others may see
it a moment before; but whatever they write upon it comes later in the same log, and a power loss
takes the end of a log, never its middle.
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
_ANY_WRITE = _WRITES[0]
_READ = os.O_RDONLY | os.O_CLOEXEC
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
            connection.settle()

    def executemany(self, sql: str, *args: Any) -> FairCursor:
        """Run one statement for many rows."""
        connection = self.connection
        connection.require_turn(sql)
        try:
            return super().executemany(sql, *args)
        finally:
            connection.settle()

    def executescript(self, sql: str) -> FairCursor:
        """Run several statements."""
        connection = self.connection
        connection.require_turn(_ANY_WRITE)
        try:
            super().executescript(sql)
        finally:
            connection.settle()
        return self


class FairConnection(sqlite3.Connection):
    """A connection to a database file whose write transactions queue fairly.

    Attributes
    ----------
    wait_seconds : float
        How long a write may wait for its turn before `sqlite3.OperationalError` is raised.
    sync_seconds : float
        How long the log took to be synced, last time.
    """

    wait_seconds = 30.0
    sync_seconds = 0.0

    def __init__(self, database: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(database, *args, **kwargs)
        self._held = False
        self._n_changes_synced = 0
        # Opened at the first commit: then the log is there, and SQLite deletes it when the last
        # connection closes, no sooner.
        self._log_name, self._log = f"{database}-wal", -1
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

    def executescript(self, sql: str) -> sqlite3.Cursor:
        """Run several statements on a new cursor; the base class would take a plain one."""
        cursor: sqlite3.Cursor = self.cursor().executescript(sql)
        return cursor

    def require_turn(self, sql: str) -> None:
        """Take the lock if this statement opens a write transaction."""
        if not self._held and not self.in_transaction and _opens_write(sql):
            self._acquire()

    def settle(self) -> None:
        """If the transaction has ended, let the next writer in and see what was written to disk.

        Raises
        ------
        sqlite3.OperationalError
            If the disk does not say that it has it: others may see what a power loss takes away.
        """
        if self.in_transaction:
            return
        # The second: a statement whose beginning does not tell that it writes.
        has_written = self._held or self.total_changes != self._n_changes_synced
        self._release()
        if has_written:
            self._n_changes_synced = self.total_changes
            self._sync()

    def commit(self) -> None:
        """Commit, let the next writer in, return when it is on disk."""
        self._open_log()
        try:
            super().commit()
        finally:
            self.settle()

    def commit_unsynced(self) -> int | None:
        """Commit and let the next writer in; this connection may be used by another thread then.

        Returns
        -------
        int or None
            A descriptor: what was committed is on disk when it was synced, not before. It is the
            caller's to close. None if it is on disk already.
        """
        try:
            # Each commit has its own, opened before: of a disk that fails each open file is told
            # once, and two that share one would hear of it by turns.
            log = os.open(self._log_name, _READ)
        except OSError:  # a rollback journal, or no descriptor left
            self.commit()
            return None
        try:
            super().commit()
        except BaseException:
            os.close(log)
            raise
        finally:
            if not self.in_transaction:
                self._n_changes_synced = self.total_changes
                self._release()
        return log

    def rollback(self) -> None:
        """Roll back, then let the next writer in."""
        try:
            super().rollback()
        finally:
            if not self.in_transaction:
                self._n_changes_synced = self.total_changes
                self._release()

    def __exit__(self, *error: Any) -> Any:
        """Commit or roll back."""
        try:
            return super().__exit__(*error)
        finally:
            self.settle()

    def close(self) -> None:
        """Close the database and the lock files (closing frees a lock still held)."""
        super().close()
        self._held = False
        for descriptor in (self._gate, self._lock, self._log):
            if descriptor >= 0:
                os.close(descriptor)
        self._gate = self._lock = self._log = -1

    def _release(self) -> None:
        if self._held:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._held = False

    def _open_log(self) -> bool:
        if self._log < 0:
            try:
                self._log = os.open(self._log_name, _READ)
            except FileNotFoundError:  # a rollback journal, whose commits SQLite syncs itself
                return False
        return True

    def _sync(self) -> None:
        began = time.perf_counter()
        try:
            if self._open_log():
                os.fdatasync(self._log)
        except OSError as error:
            raise sqlite3.OperationalError(f"disk I/O error ({error.strerror})") from error
        self.sync_seconds = time.perf_counter() - began

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
