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
takes the end of a log, never its middle. A disk that fails to sync does leave a hole: then nothing
is acknowledged until the log was brought into the database and begun anew. (A connection that is
opened between such a failure and its being noticed hears nothing of it: for that moment only.)

A statement with RETURNING needs a transaction of its own: in autocommit it is committed by reading
its rows to the end, which nothing here takes note of.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_WRITES = (
    "INSERT", "UPDATE", "DELETE", "REPLACE", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE",
    "CREATE", "DROP", "ALTER", "VACUUM", "REINDEX",
)  # fmt: skip
_LONGEST = max(map(len, _WRITES))
_ANY_WRITE = _WRITES[0]
# What begins so writes nothing, except behind a WITH, which is told by the number of changes.
_READS = ("SELECT", "WITH", "EXPLAIN", "BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE")
_POLL_SECONDS = 0.0003
_REPAIR_MILLISECONDS = 500
_MOST_SPARE_LOGS = 6
# Databases whose log failed to be synced, by this process; see `_suspect_log`.
_SUSPECT: set[str] = set()


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
        self._held = self._is_dirty = False
        self._n_changes_synced = 0
        self._log = -1
        self._spare_logs: list[int] = []
        # As SQLite knows it: the name that was given may be a link or a URI.
        self._name = self._plainly("PRAGMA database_list")[2] or database
        self._gate = self._lock = -1
        self._lock_path = Path(f"{self._name}.lock")
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
        try:
            self._gate = os.open(f"{self._name}.gate", flags, 0o600)
            self._lock = os.open(self._lock_path, flags, 0o600)
        except OSError:
            self.close()
            raise

    def sync_here(self) -> None:
        """Leave it to this object to sync the log of a database in WAL mode.

        Without that, and in any other mode, SQLite syncs each commit itself.

        Raises
        ------
        sqlite3.OperationalError
            If the log cannot be opened.
        """
        if self._plainly("PRAGMA journal_mode")[0] != "wal":
            return
        # Reading opens the log; from now on SQLite does not delete it before this is closed.
        self._plainly("SELECT COUNT(*) FROM sqlite_schema")
        self._log = self._open_log()
        self._spare_logs.append(self._open_log())
        self._plainly("PRAGMA synchronous=NORMAL")

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
        start = sql.lstrip()[:_LONGEST].upper()
        if not start.startswith(_READS):
            self._is_dirty = True
        if not self._held and not self.in_transaction and start.startswith(_WRITES):
            self._acquire()

    def settle(self) -> None:
        """If the transaction has ended, let the next writer in and see what was written to disk.

        Raises
        ------
        sqlite3.OperationalError
            If it may not be on disk: others may see what a power loss takes away.
        """
        if self.in_transaction:
            return
        # The last: a statement that begins like one that reads.
        has_written = self._held or self._is_dirty or self.total_changes != self._n_changes_synced
        self._release()
        if has_written:
            self._sync(self._log)
            self._is_dirty, self._n_changes_synced = False, self.total_changes

    def commit(self) -> None:
        """Commit, let the next writer in, return when it is on disk."""
        try:
            super().commit()
        finally:
            self.settle()

    def commit_unsynced(self) -> int | None:
        """Commit and let the next writer in; this connection may be used by another thread then.

        Returns
        -------
        int or None
            A descriptor for `sync`: what was committed is on disk when that has returned, not
            before. None if it is on disk already.
        """
        if self._log < 0:
            self.commit()
            return None
        # Of a disk that fails each open file is told once: two commits that shared one would hear
        # of it by turns, and one that is opened afterwards never.
        log = self._spare_logs.pop() if self._spare_logs else self._open_log()
        try:
            super().commit()
        except BaseException:
            self._spare_logs.append(log)
            raise
        finally:
            if not self.in_transaction:
                self._is_dirty, self._n_changes_synced = False, self.total_changes
                self._release()
        return log

    def sync(self, log: int) -> None:
        """Return when what `commit_unsynced` has committed is on disk; any thread may call this.

        Raises
        ------
        sqlite3.OperationalError
            If it may not be.
        """
        try:
            self._sync(log)
        finally:
            if self._lock < 0 or len(self._spare_logs) >= _MOST_SPARE_LOGS:
                os.close(log)
            else:
                self._spare_logs.append(log)

    def rollback(self) -> None:
        """Roll back, then let the next writer in."""
        try:
            super().rollback()
        finally:
            if not self.in_transaction:
                self._is_dirty, self._n_changes_synced = False, self.total_changes
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
        own = (self._gate, self._lock, self._log)
        self._gate = self._lock = self._log = -1
        for descriptor in own:
            if descriptor >= 0:
                os.close(descriptor)
        while self._spare_logs:
            os.close(self._spare_logs.pop())

    def _plainly(self, sql: str) -> tuple[Any, ...]:
        """Run a statement outside the lock; return its first row."""
        row: tuple[Any, ...] = super().cursor(sqlite3.Cursor).execute(sql).fetchone() or ()
        return row

    def _release(self) -> None:
        if self._held:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._held = False

    def _open_log(self) -> int:
        try:
            return os.open(f"{self._name}-wal", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise sqlite3.OperationalError(f"no log of the database ({error.strerror})") from error

    def _sync(self, log: int) -> None:
        if log < 0:
            return
        began = time.perf_counter()
        try:
            os.fdatasync(log)
        except OSError as error:
            self._suspect_log()
            raise sqlite3.OperationalError(f"disk I/O error ({error.strerror})") from error
        if self._is_log_suspect():
            raise sqlite3.OperationalError("disk I/O error (of an earlier part of the log)")
        self.sync_seconds = time.perf_counter() - began

    def _suspect_log(self) -> None:
        """Let all processes know that part of the log may never come to be on disk.

        What the disk has refused once, Linux takes for written. A power loss would end the log
        there, whatever was synced behind it.
        """
        _SUSPECT.add(self._name)
        # By its name: the connection may be closed by now. By its size: that needs no room.
        with suppress(OSError):  # it is the disk that fails
            os.truncate(self._lock_path, 1)

    def _is_log_suspect(self) -> bool:
        if self._name in _SUSPECT:
            return True
        try:
            return self._lock_path.stat().st_size > 0
        except FileNotFoundError:  # someone tidied up: SQLite's own locks still hold
            return False

    def _begin_log_anew(self) -> None:
        """Bring all that the log holds into the database, on disk, and empty the log."""
        patience = self._plainly("PRAGMA busy_timeout")[0]
        try:
            # Everybody else waits for the lock meanwhile.
            self._plainly(f"PRAGMA busy_timeout={_REPAIR_MILLISECONDS}")
            is_busy = self._plainly("PRAGMA wal_checkpoint(TRUNCATE)")[0]
        finally:
            self._plainly(f"PRAGMA busy_timeout={patience}")
        if is_busy:
            raise sqlite3.OperationalError("disk I/O error (readers hold the log that has it)")
        try:
            os.ftruncate(self._lock, 0)
        except OSError as error:
            raise sqlite3.OperationalError(f"disk I/O error ({error.strerror})") from error
        _SUSPECT.discard(self._name)

    def _acquire(self) -> None:
        deadline = time.monotonic() + self.wait_seconds
        _flock(self._gate, deadline)
        try:
            _flock(self._lock, deadline)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        self._held = True
        if self._is_log_suspect():
            try:
                self._begin_log_anew()
            except BaseException:
                self._release()
                raise


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
