"""The thread of a receiving process that answers requests for storage commitment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue

import sqlalchemy as sa
import structlog

from db import commitments_asked
from db.files import FileStore

from .commitment_data import (
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    encoded,
    event_of,
)
from .commitment_scp import LEASE, OpenRequest
from .observe import Observer
from .safekeeping import Safekeeping
from .transport.reports import EventReport

_LOG = structlog.get_logger()
_TICK_SECONDS = 0.5
_RENEW_SECONDS = 5.0
# How long a report waits for its association to fall silent, if it could go another way.
_HOLD_SECONDS = 10.0
# How long to wait for rows of images that were taken while the database was away.
BACKLOG_PATIENCE = timedelta(minutes=10)
_LOOK_AGAIN_SECONDS = 1.0
_JOIN_SECONDS = 10.0


class _Stopped(Exception):  # noqa: N818 - not an error: it ends the look at files
    """The process stops."""


@dataclass(slots=True)
class _Task:
    request: OpenRequest
    look_at: float = 0.0  # monotonic
    report: EventReport | None = None
    put_at: float = 0.0
    n_failed: int = 0


@dataclass(frozen=True, slots=True)
class _Done:
    task: _Task
    status: int | None


class CommitmentDesk:
    """Makes the reports of requests whose association is open, and has them sent.

    Parameters
    ----------
    engine, files
        Where requests, rows and images are.
    calls_back : collection of str
        Calling AE titles that can be reached on an association of our own.
    clock : callable
        Returns the time as aware UTC.
    observer : Observer, optional
        Hears of instances that are not committed, for metrics.
    """

    def __init__(
        self,
        engine: sa.Engine,
        files: FileStore,
        calls_back: Collection[str] = (),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        observer: Observer | None = None,
    ) -> None:
        self._engine = engine
        self._observer = observer or Observer()
        self._safekeeping = Safekeeping(engine, files)
        self._calls_back = frozenset(calls_back)
        self._clock = clock
        self._inbox: SimpleQueue[OpenRequest | _Done | None] = SimpleQueue()
        self._tasks: dict[int, _Task] = {}
        self._renewed_at = time.monotonic()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start and return."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="commitment", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let go of all requests: others answer them."""
        self._stopping.set()
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)
            self._thread = None

    def open(self, request: OpenRequest) -> None:
        """Take a request that was entered; any thread."""
        self._inbox.put(request)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._take(self._next())
            while not self._inbox.empty():
                self._take(self._next())
            self._guarded(self._renew)
            for task in list(self._tasks.values()):
                self._advance(task)
        while not self._inbox.empty():
            self._take(self._next())
        for task in list(self._tasks.values()):
            self._let_go(task, "the node stopped before the answer could be sent")

    def _next(self) -> OpenRequest | _Done | None:
        try:
            return self._inbox.get(timeout=_TICK_SECONDS if self._tasks else None)
        except Empty:
            return None

    def _take(self, said: OpenRequest | _Done | None) -> None:
        if isinstance(said, OpenRequest):
            before = self._tasks.get(said.id)
            if before is not None and before.report is not None:  # it asks for the same anew
                before.request.sender.withdraw(before.report)
            self._tasks[said.id] = _Task(said)
        elif isinstance(said, _Done) and self._tasks.get(said.task.request.id) is said.task:
            self._finish(said.task, said.status)

    def _advance(self, task: _Task) -> None:
        if self._stopping.is_set():
            return
        now = time.monotonic()
        if task.report is None:
            if task.request.sender.is_over:
                self._let_go(task, None)
            elif now >= task.look_at:
                self._guarded(lambda: self._look(task))
        elif (
            now - task.put_at > _HOLD_SECONDS
            and task.request.calling_ae in self._calls_back
            and task.request.sender.withdraw(task.report)
        ):
            self._let_go(task, None)

    def _look(self, task: _Task) -> None:
        request = task.request
        # Before the look, so that one that fails is not repeated at once.
        task.look_at = time.monotonic() + _LOOK_AGAIN_SECONDS
        is_last = self._clock() - request.received_at > BACKLOG_PATIENCE
        failures = self._safekeeping.look(
            request.instances, request.trace_id, is_last=is_last, pace=self._pace
        )
        if failures is None:
            return
        with self._engine.begin() as connection:
            commitments_asked.mark_looked_at(connection, request.id, failures)
        for reason in failures.values():
            self._observer.commitment_refused(reason)
        event_type, information = event_of(request.transaction_uid, request.instances, failures)
        task.n_failed = len(failures)
        report = EventReport(
            request.context_id,
            STORAGE_COMMITMENT,
            STORAGE_COMMITMENT_INSTANCE,
            event_type,
            encoded(information, request.transfer_syntax_uid),
            lambda status: self._inbox.put(_Done(task, status)),
        )
        task.report, task.put_at = report, time.monotonic()
        if not request.sender.put(report):
            self._let_go(task, None)

    def _finish(self, task: _Task, status: int | None) -> None:
        if status is None:
            self._let_go(task, "the association ended before the answer was taken")
        elif not is_taken(status):
            self._let_go(task, f"the answer was refused (0x{status & 0xFFFF:04X})")
        else:
            del self._tasks[task.request.id]
            self._guarded(lambda: self._enter_reported(task))

    def _enter_reported(self, task: _Task) -> None:
        request = task.request
        with self._engine.begin() as connection:
            commitments_asked.mark_reported(connection, request.id, self._clock())
        _LOG.info("commitment.reported", trace=request.trace_id,
                  transaction=request.transaction_uid, n_instances=len(request.instances),
                  n_failed=task.n_failed)  # fmt: skip

    def _let_go(self, task: _Task, error: str | None) -> None:
        self._tasks.pop(task.request.id, None)

        def release() -> None:
            with self._engine.begin() as connection:
                commitments_asked.release(connection, task.request.id, self._clock(), error)

        self._guarded(release)

    def _pace(self) -> None:
        if self._stopping.is_set():
            raise _Stopped
        self._renew()

    def _renew(self) -> None:
        if not self._tasks or time.monotonic() - self._renewed_at < _RENEW_SECONDS:
            return
        self._renewed_at = time.monotonic()
        with self._engine.begin() as connection:
            commitments_asked.renew(connection, list(self._tasks), self._clock() + LEASE)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do what may fail; the end of the lease brings back what failed."""
        try:
            step()
        except _Stopped:
            return
        except Exception as error:  # noqa: BLE001 - thread boundary: others wait for their answer
            _LOG.error("commitment.failed", error=type(error).__name__)


def is_taken(status: int) -> bool:
    """Tell whether a status says that a report was taken: success or warning (PS3.7 Annex C)."""
    return status in (0x0000, 0x0001, 0x0107, 0x0116) or status >> 12 == 0xB
