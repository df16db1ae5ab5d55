"""Indexes the backlog: waits for a database that is away, then writes the rows that wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from .backlog import Backlog
from .errors import DatabaseAwayError, DatabaseError
from .group import GroupWriter, Outcome
from .hang import watch
from .instances import Added
from .ledger_queue import LedgerBatch, LedgerQueue
from .spool import SpooledLine, SpoolFile

_LOG = structlog.get_logger()
_BATCH = 256
_SECONDS_BETWEEN_PROBES = 1.0
_SECONDS_BETWEEN_LOG_LINES = 60.0


class Indexer:
    """The circuit breaker of one process, and the thread that closes it again.

    While the database is away nobody else asks for it: a group that has to wait for a time-out
    first would hold up its senders.

    Parameters
    ----------
    engine, backlog, ledger
        From where to where. The ledger goes first: a series is complete only when no open
        association still sends it.
    clock : callable
        Returns the time as aware UTC.
    hang_seconds : float, default 5
        As for `Ingest`.
    """

    def __init__(
        self,
        engine: sa.Engine,
        backlog: Backlog,
        ledger: LedgerQueue,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        hang_seconds: float = 5.0,
    ) -> None:
        self._backlog = backlog
        self._ledger = ledger
        self._clock = clock
        self._writer = GroupWriter(engine)
        self._guard = threading.Lock()
        self._away_since: float | None = None
        self._logged_at = float("-inf")
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        watch(self._writer, hang_seconds, self._stopping)

    @property
    def is_database_away(self) -> bool:
        """True from the first group that failed until all that waited has its rows."""
        return self._away_since is not None

    def away(self, error: DatabaseAwayError) -> None:
        """Open the breaker."""
        with self._guard:
            news = self._away_since is None
            if news:
                self._away_since = time.monotonic()
        if news:
            self._logged_at = time.monotonic()
            _LOG.error("database.away", error=str(error))
        self.wake()

    def wake(self) -> None:
        """Index what waits; the thread is started when it is first needed."""
        with self._guard:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)
                self._thread.start()
        self._wanted.set()

    def close(self) -> None:
        """Stop after the batch in hand; what still waits is for the next process."""
        self._stopping.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
        self._writer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait()
            self._wanted.clear()
            while not self._stopping.is_set() and not self._try():
                self._stopping.wait(_SECONDS_BETWEEN_PROBES)

    def _try(self) -> bool:
        try:
            self._index_all()
        except DatabaseAwayError as error:
            self._log_still_away(error)
            return False
        except (DatabaseError, OSError) as error:
            _LOG.error("backlog.failed", error=str(error))
            return False
        except Exception:  # noqa: BLE001 - thread boundary: the backlog must be tried again
            _LOG.exception("backlog.failed")
            return False
        return True

    def _log_still_away(self, error: DatabaseAwayError) -> None:
        now = time.monotonic()
        if now - self._logged_at >= _SECONDS_BETWEEN_LOG_LINES:
            self._logged_at = now
            _LOG.warning(
                "database.still_away", error=str(error), n_unindexed=self._backlog.n_unindexed
            )

    def _index_all(self) -> None:
        if self.is_database_away:
            self._writer.probe()
        n_indexed = n_refused = 0
        started = time.monotonic()
        while (file := self._backlog.oldest()) is not None:
            indexed, refused = self._index(file)
            n_indexed, n_refused = n_indexed + indexed, n_refused + refused
        self._writer.close()
        self._close_breaker()
        if n_indexed or n_refused:
            _LOG.warning(
                "backlog.indexed",
                n_instances=n_indexed,
                n_refused=n_refused,
                seconds=round(time.monotonic() - started, 3),
            )

    def _close_breaker(self) -> None:
        with self._guard:
            since, self._away_since = self._away_since, None
        if since is not None:
            _LOG.warning("database.back", seconds=round(time.monotonic() - since, 1))

    def _index(self, file: SpoolFile) -> tuple[int, int]:
        n_indexed = n_refused = 0
        while lines := file.read(_BATCH):
            if self._stopping.is_set():
                raise DatabaseAwayError("stopping")
            refused = self._write(lines)
            if refused:
                where = self._backlog.refuse(refused)
                _LOG.error("backlog.refused", n_instances=len(refused), kept=str(where))
            file.done(lines)
            n_indexed += len(lines) - len(refused)
            n_refused += len(refused)
        self._backlog.remove(file)
        return n_indexed, n_refused

    def _write(self, lines: list[SpooledLine]) -> list[SpooledLine]:
        """Write a batch; return the lines that will never have a row."""
        whole = [line for line in lines if line.record is not None]
        torn = [line for line in lines if line.record is None]
        if torn:
            # The last line of a process that died inside it was never acknowledged.
            _LOG.error("backlog.torn", n_lines=len(torn))
        ledger = self._ledger.take() if self.is_database_away else LedgerBatch()
        try:
            outcomes = self._writer.write(
                ledger, [line.record for line in whole if line.record], self._clock()
            )
        except BaseException:
            self._ledger.put_back(ledger)
            raise
        self._ledger.written(ledger)
        return [
            line for line, outcome in zip(whole, outcomes, strict=True) if _failed(line, outcome)
        ] + [line for line in torn if line.text.endswith(b"\n")]


def _failed(line: SpooledLine, outcome: Outcome) -> bool:
    if isinstance(outcome, Added):
        return False
    instance = line.record.sop_instance_uid if line.record else None
    _LOG.error("instance.not_indexed", instance=instance, reason=str(outcome))
    return True
