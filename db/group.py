"""One transaction for a group of rows: all of them, or each that can be.

A group is written as a whole. If a row of it is refused for its own fault, the group is written
once more with a savepoint before each row, in one transaction again: each row fails alone, and a
bad one costs its group one more commit, not one for each row.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TypeAlias, TypeVar, cast

import sqlalchemy as sa
import structlog

from .associations import LedgerEntry, write_entries, write_lost
from .dialect import Cursor, Dialect
from .errors import DatabaseAwayError, DatabaseError
from .faults import Fault, fault_of
from .instances import Added, InstanceRecord, write_instances
from .ledger_queue import LedgerBatch
from .pace import Pace
from .touched import TouchedSeries
from .write_lock import FairConnection

_LOG = structlog.get_logger()
_ATTEMPTS = 4
_STALE_SECONDS = 1.0
_MOST_KNOWN_CONTEXTS = 1024
# A statement that changes nothing and yet needs everything that writing needs.
_PROBE = "UPDATE association SET n_bytes = n_bytes WHERE 1 = 0"

Outcome: TypeAlias = Added | DatabaseError
# What `FairConnection.commit_unsynced` has returned, and which connection that was.
UnsyncedLog: TypeAlias = tuple[FairConnection, int]
_T = TypeVar("_T")


class _RowFaultError(DatabaseAwayError):
    """Some row of the group is refused for its own fault.

    If that shows at the commit only, no row can be told from the others: then nothing was taken.
    """


class GroupWriter:
    """Writes groups over one connection that it keeps; for one thread at a time.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        From `db.create_engine`.
    touch_seconds : float, default 0
        How long the rows of a series count as just written, on SQLite; see `TouchedSeries`.
    """

    def __init__(self, engine: sa.Engine, touch_seconds: float = 0.0) -> None:
        self._engine = engine
        self._dialect = Dialect(engine)
        # What rows can be guilty of: the driver's errors, ours, and those of values that the driver
        # cannot encode. Anything else is a defect of this program and passes through.
        self._errors = (
            engine.dialect.loaded_dbapi.Error, DatabaseError, ValueError, OverflowError, TypeError,
        )  # fmt: skip
        is_touched_remembered = self._dialect.is_sqlite and touch_seconds > 0
        self._touched = TouchedSeries(touch_seconds) if is_touched_remembered else None
        self._connection: sa.PoolProxiedConnection | None = None
        self._known_contexts: set[str] = set()
        self._busy_since: float | None = None
        self._pace = Pace()

    def write(
        self,
        ledger: LedgerBatch,
        records: Sequence[InstanceRecord],
        indexed_at: datetime | None = None,
        let_next: Callable[[], None] | None = None,
    ) -> list[Outcome]:
        """Write rows of the ledger and of instances in one transaction, durable on return.

        Parameters
        ----------
        indexed_at : datetime or None
            As in `write_instances`.
        let_next : callable or None
            Called when another thread may write its group, if that is before this one is durable:
            on SQLite, where a disk takes its time.

        Returns
        -------
        list
            For each record what became of it, or why it was refused.

        Raises
        ------
        DatabaseAwayError
            If the database took nothing, for no fault of the rows.
        """
        n_lost = 0

        def together(cursor: Cursor) -> list[Outcome]:
            nonlocal n_lost
            n_lost = sum(write_lost(cursor, self._dialect, one) for one in ledger.lost)
            if ledger.entries:
                write_entries(cursor, self._dialect, ledger.entries, self._known_contexts)
            touched = self._touched if indexed_at is None else None
            return [*write_instances(cursor, self._dialect, records, indexed_at, touched)]

        def each_alone(cursor: Cursor) -> list[Outcome]:
            nonlocal n_lost
            if self._dialect.is_sqlite:  # Python's sqlite3 does not begin one for a savepoint
                cursor.execute("BEGIN IMMEDIATE")
            n_lost = sum(write_lost(cursor, self._dialect, one) for one in ledger.lost)
            for entry in ledger.entries:
                self._entry_alone(cursor, entry)
            return [self._record_alone(cursor, record, indexed_at) for record in records]

        try:
            outcomes, log = self._transaction(together)
            self._remember_contexts(ledger)
            if self._touched is not None and indexed_at is None:
                self._touched.commit()
        except _RowFaultError:
            self._known_contexts.clear()
            if self._touched is not None:
                self._touched.forget()
            outcomes, log = self._transaction(each_alone)
        if log is not None:
            self._sync(log, let_next)
        if n_lost:
            _LOG.warning("association.lost", n_associations=n_lost)
        return outcomes

    @property
    def can_hang(self) -> bool:
        """Whether the database is another program, which may answer nothing at all."""
        return not self._dialect.is_sqlite

    def probe(self) -> None:
        """Return if the database takes what is written; raise DatabaseAwayError if not."""
        _, log = self._transaction(lambda cursor: cursor.execute(_PROBE))
        if log is not None:
            self._sync(log, None)

    def break_off(self, seconds: float) -> None:
        """Break the connection if a transaction has hung for longer; any thread may call this.

        A server that takes connections and answers nothing would hold its client for good: none of
        its own time-outs works then. The transaction fails as one whose database is away.
        """
        since, connection = self._busy_since, self._connection
        if since is None or connection is None or time.monotonic() - since < seconds:
            return
        descriptor = getattr(connection.driver_connection, "fileno", None)
        if descriptor is None:  # SQLite: its own time-outs do
            return
        with suppress(OSError, *self._errors), socket.socket(fileno=os.dup(descriptor())) as wire:
            # Ended meanwhile, the connection may be closed, and its number another socket's.
            if self._busy_since == since:
                wire.shutdown(socket.SHUT_RDWR)
                _LOG.error("database.hangs", seconds=round(time.monotonic() - since, 1))

    def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sa.exc.SQLAlchemyError, *self._errors):
                connection.close()

    def _transaction(self, write: Callable[[Cursor], _T]) -> tuple[_T, UnsyncedLog | None]:
        """Run one transaction; again if another one stood in its way or the connection was dead.

        Its outcome is durable when the log that is returned as well, if any, was synced.
        """
        for _ in range(_ATTEMPTS):
            was_kept = self._connection is not None
            connection = self._connect()
            self._busy_since = started = time.monotonic()
            try:
                outcome = write(cast(Cursor, connection.cursor()))
                log = self._commit(connection)
            except self._errors as error:
                is_dead = not self._roll_back(connection)
                # A restart of the server leaves us a dead connection: no news, and known at once.
                is_stale = is_dead and was_kept and time.monotonic() - started < _STALE_SECONDS
                fault = Fault.ROW if isinstance(error, DatabaseError) else fault_of(error)
                if fault is Fault.ROW:
                    raise _RowFaultError(_reason(error)) from error
                if fault is Fault.DATABASE and not is_stale:
                    raise DatabaseAwayError(_reason(error)) from error
            except BaseException:
                self._roll_back(connection)
                raise
            else:
                return outcome, log
            finally:
                self._busy_since = None
        raise DatabaseAwayError(f"given up after {_ATTEMPTS} attempts")

    def _commit(self, connection: sa.PoolProxiedConnection) -> UnsyncedLog | None:
        driver_connection = connection.driver_connection
        if not isinstance(driver_connection, FairConnection):
            connection.commit()
            return None
        if self._pace.is_slow:
            descriptor = driver_connection.commit_unsynced()
            return None if descriptor is None else (driver_connection, descriptor)
        driver_connection.commit()
        self._pace.learn(driver_connection.sync_seconds)
        return None

    def _sync(self, log: UnsyncedLog, let_next: Callable[[], None] | None) -> None:
        """Sync what was committed."""
        connection, descriptor = log
        if let_next is not None:
            let_next()  # from here on the transaction and the state here are another thread's
        began = time.perf_counter()
        try:
            connection.sync(descriptor)
        except self._errors as error:
            raise DatabaseAwayError(_reason(error)) from error
        self._pace.learn(time.perf_counter() - began)

    def _connect(self) -> sa.PoolProxiedConnection:
        if self._connection is None:
            try:
                self._connection = self._engine.raw_connection()
            except (sa.exc.SQLAlchemyError, OSError, *self._errors) as error:
                raise DatabaseAwayError(_reason(error)) from error
        return self._connection

    def _roll_back(self, connection: sa.PoolProxiedConnection) -> bool:
        """Roll back and keep the connection; if that fails, drop it and return False."""
        try:
            connection.rollback()
            if not getattr(connection.driver_connection, "closed", False):
                return True
        except self._errors as error:
            _LOG.debug("database.rollback_failed", error=type(error).__name__)
        self._connection = self._busy_since = None
        with suppress(sa.exc.SQLAlchemyError, *self._errors):
            connection.invalidate()
        return False

    def _entry_alone(self, cursor: Cursor, entry: LedgerEntry) -> None:
        error = self._alone(cursor, lambda: write_entries(cursor, self._dialect, (entry,)))
        if isinstance(error, DatabaseError):
            _LOG.error("association.not_recorded", trace=entry.id, error=str(error))

    def _record_alone(
        self, cursor: Cursor, record: InstanceRecord, indexed_at: datetime | None
    ) -> Outcome:
        def write() -> Added:
            return write_instances(cursor, self._dialect, (record,), indexed_at)[0]

        return self._alone(cursor, write)

    def _alone(self, cursor: Cursor, write: Callable[[], _T]) -> _T | DatabaseError:
        """Run `write` so that its failure, if it is the row's own, undoes nothing else."""
        cursor.execute("SAVEPOINT alone")
        try:
            outcome: _T | DatabaseError = write()
        except self._errors as error:
            if not isinstance(error, DatabaseError) and fault_of(error) is not Fault.ROW:
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT alone")
            outcome = DatabaseError(f"instance row not committed ({_reason(error)})")
        cursor.execute("RELEASE SAVEPOINT alone")
        return outcome

    def _remember_contexts(self, ledger: LedgerBatch) -> None:
        if len(self._known_contexts) > _MOST_KNOWN_CONTEXTS:
            self._known_contexts.clear()
        self._known_contexts |= {one.context_digest for one in ledger.entries if one.context_digest}


def _reason(error: BaseException) -> str:
    """Return the error's type and code: the driver's own words may quote values."""
    original = getattr(error, "orig", None) or error
    code = getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None)
    return f"{type(original).__name__} {code or ''}".rstrip()
