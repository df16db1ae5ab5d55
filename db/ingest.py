"""Rows for stored instances and for the association ledger, committed in groups.

Many associations wait for their row at once; one commit costs an fsync whatever it holds. The
first to come commits for all that wait (leader and followers), then hands over to the first of
those that came since; where the disk is slow already while the log is synced, so that the next
group need not wait for that. Rows of the ledger ride along: nobody waits for them, and they cost no
commit of their own while images come.

A database that is away does not stop the receiving of images: with a backlog their records are kept
there, durable, and get their rows when the database is back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import sqlalchemy as sa

from .associations import AssociationClosing, AssociationRecord, LostAcceptor, entry_of
from .backlog import Backlog
from .errors import DatabaseAwayError, DatabaseError
from .group import GroupWriter, Outcome
from .hang import watch
from .indexer import Indexer
from .instances import Added, InstanceRecord
from .ledger_queue import LedgerQueue

__all__ = ["Added", "Ingest", "InstanceRecord"]

_GROUP_LIMIT = 256
# Rows of the ledger wait so long for a group of images to take them along.
_FLUSH_SECONDS = 0.1
_RETRY_SECONDS = 1.0
_CLOSE_SECONDS = 5.0


class _Waiter:
    """A caller whose row is not durable yet; woken when it is, or to lead the next group."""

    __slots__ = ("done", "outcome", "record", "woken")

    def __init__(self, record: InstanceRecord | None) -> None:
        self.record = record  # None: only rows of the ledger
        self.done = False
        # Until the commit says otherwise: nothing may be acknowledged on a way not foreseen.
        self.outcome: Outcome = DatabaseError("instance row not committed")
        # Held until the caller is woken; a tenth of the cost of an event.
        self.woken = threading.Lock()
        self.woken.acquire()


class Ingest:
    """Group commit of instance rows; one object per process.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        From `db.create_engine`; up to two of its connections are kept. How long its time-outs are,
        a caller may have to wait when the database goes away.
    backlog : Backlog or None
        Where records go while the database is away; without one they are refused then.
    hang_seconds : float, default 5
        A transaction on PostgreSQL that takes longer is broken off: the server hangs.
    touch_seconds : float, default 0
        On SQLite the time of the last image of a study and a series is not written again within so
        many seconds; less than half of the time after which a quiet series is complete.

    Attributes
    ----------
    n_groups, n_rows : int
        Transactions with rows of instances, and these rows, since the start.
    seconds : float
        Time that these transactions took in all.
    """

    def __init__(
        self,
        engine: sa.Engine,
        backlog: Backlog | None = None,
        *,
        hang_seconds: float = 5.0,
        touch_seconds: float = 0.0,
    ) -> None:
        self._writer = GroupWriter(engine, touch_seconds)
        self._backlog = backlog
        self._ledger = LedgerQueue()
        self._indexer: Indexer | None = None
        if backlog is not None:
            self._indexer = Indexer(engine, backlog, self._ledger, hang_seconds=hang_seconds)
        self._guard = threading.Lock()
        self._has_leader = False
        self._waiting: list[_Waiter] = []
        self._flusher: threading.Thread | None = None
        self._ledger_waits = threading.Event()
        self._stopping = threading.Event()
        watch(self._writer, hang_seconds, self._stopping)
        self.n_groups = 0
        self.n_rows = 0
        self.seconds = 0.0
        if backlog is not None and self._indexer is not None and backlog.adopt():
            self._indexer.wake()

    @property
    def n_unindexed(self) -> int:
        """Records that wait in the backlog of this process."""
        return self._backlog.n_unindexed if self._backlog is not None else 0

    @property
    def is_database_away(self) -> bool:
        """True from a group that failed until everything that waited since has its row."""
        return self._indexer is not None and self._indexer.is_database_away

    def add(self, record: InstanceRecord) -> Added:
        """Return when the row is durable, or while the database is away the record.

        Raises
        ------
        DatabaseError
            If this row could not be committed; rows of other callers are not affected.
        BacklogFullError
            If the database is away and no more records may wait for it.
        """
        waiter = self._submit(record)
        if isinstance(waiter.outcome, DatabaseError):
            raise waiter.outcome
        return waiter.outcome

    def enter(self, opening: AssociationRecord) -> None:
        """Enter an association that was accepted; written with or before its first instance."""
        self._ledger.put(entry_of(opening))
        self._want_flush()

    def leave(self, closing: AssociationClosing) -> None:
        """Enter how an association ended, or that it was rejected; the first end counts."""
        self._ledger.put(entry_of(closing))
        self._want_flush()

    def close_lost(self, acceptor: str, before: datetime) -> None:
        """Enter that a killed process of this acceptor lost what it had opened before `before`."""
        self._ledger.put_lost(LostAcceptor(acceptor, before))
        self._want_flush()

    def flush(self, timeout: float) -> bool:
        """Wait until the ledger is written; False if that takes longer than `timeout` seconds."""
        self._want_flush()
        return self._ledger.wait_empty(timeout)

    def close(self) -> None:
        """Write what waits, for at most five seconds, and end all threads."""
        if len(self._ledger) and not self.is_database_away:
            self.flush(_CLOSE_SECONDS)
        self._stopping.set()
        self._ledger_waits.set()
        if self._flusher is not None:
            self._flusher.join(timeout=_CLOSE_SECONDS)
        if self._indexer is not None:
            self._indexer.close()
        if self._backlog is not None:
            self._backlog.close()
        self._writer.close()

    def _submit(self, record: InstanceRecord | None) -> _Waiter:
        waiter = _Waiter(record)
        with self._guard:
            self._waiting.append(waiter)
            follows, self._has_leader = self._has_leader, True
        if follows:
            waiter.woken.acquire()
        if not waiter.done:
            self._lead()
        return waiter

    def _lead(self) -> None:
        """Commit for all that wait now, and hand over to the first of those that came since.

        That is when the group is durable; on a slow disk when it only has to be synced.
        """
        with self._guard:
            group, self._waiting = self._waiting[:_GROUP_LIMIT], self._waiting[_GROUP_LIMIT:]
        leads = True

        def let_next() -> None:
            nonlocal leads
            if leads:
                leads = False
                self._hand_over()

        try:
            self._commit(group, let_next)
        finally:
            for waiter in group:
                waiter.done = True
                waiter.woken.release()
            let_next()

    def _hand_over(self) -> None:
        with self._guard:
            successor = self._waiting[0] if self._waiting else None
            self._has_leader = successor is not None
        if successor is not None:
            successor.woken.release()

    def _commit(self, group: Sequence[_Waiter], let_next: Callable[[], None]) -> None:
        waiters = [waiter for waiter in group if waiter.record is not None]
        records = [waiter.record for waiter in waiters if waiter.record is not None]
        outcomes: Sequence[Outcome]
        if self.is_database_away:
            outcomes = self._keep(records)
        else:
            try:
                outcomes = self._write(records, let_next)
            except DatabaseAwayError as error:
                outcomes = self._without_database(records, error)
        for waiter, outcome in zip(waiters, outcomes, strict=True):
            waiter.outcome = outcome

    def _write(
        self, records: Sequence[InstanceRecord], let_next: Callable[[], None]
    ) -> Sequence[Outcome]:
        """Write a group and what waits of the ledger; every opening of theirs is among it."""
        started = time.monotonic()
        ledger = self._ledger.take()
        if not ledger and not records:
            return []
        try:
            outcomes = self._writer.write(ledger, records, let_next=let_next)
        except BaseException:
            self._ledger.put_back(ledger)
            raise
        self._ledger.written(ledger)
        with self._guard:  # the next group may be written already
            self.n_groups += bool(records)
            self.n_rows += len(records)
            self.seconds += time.monotonic() - started
        return outcomes

    def _without_database(
        self, records: Sequence[InstanceRecord], error: DatabaseAwayError
    ) -> Sequence[Outcome]:
        if self._indexer is None:
            return [DatabaseAwayError(f"the database is away ({error})") for _ in records]
        self._indexer.away(error)
        return self._keep(records)

    def _keep(self, records: Sequence[InstanceRecord]) -> Sequence[Outcome]:
        """Keep records in the backlog."""
        assert self._backlog is not None and self._indexer is not None
        if not records:
            return []
        try:
            n_kept = self._backlog.append(records)
        except DatabaseError as error:
            return [type(error)(str(error)) for _ in records]  # each is raised in its own thread
        self._indexer.wake()
        return [Added.UNINDEXED] * n_kept + [self._backlog.full() for _ in records[n_kept:]]

    def _want_flush(self) -> None:
        if self._ledger_waits.is_set():
            return
        with self._guard:
            if self._flusher is None:
                self._flusher = threading.Thread(
                    target=self._flush_forever, name="ledger-flush", daemon=True
                )
                self._flusher.start()
        self._ledger_waits.set()

    def _flush_forever(self) -> None:
        """Write rows of the ledger that no group has taken along."""
        while self._ledger_waits.wait() and not self._stopping.wait(_FLUSH_SECONDS):
            self._ledger_waits.clear()
            while len(self._ledger) and not self._stopping.is_set():
                if not self.is_database_away:
                    self._submit(None)
                if len(self._ledger):
                    self._stopping.wait(_RETRY_SECONDS)
