"""Recovery at start: what a crash, a power loss or a hand on the data directory left behind.

It runs beside receiving, in one thread of one process, and rests for most of the time. Whole files
without a row get one, cut files go into quarantine, rows without a file are marked: none of that is
lost on the quiet.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from db import inventory
from db.arrival import ArrivalOrder
from db.claim import claimed
from db.conflicts import number_by_arrival
from db.files import FileStore
from db.ingest import Ingest
from db.instances import Added, InstanceRecord
from db.rebuild import Placed, rebuild

from .discrepancy import Discrepancy, Kind
from .reconcile import LOCK_NAME, REBUILT, Reconciliation, read_one

RECOVERED = "recovered"

_LOG = structlog.get_logger()
# A crash leaves at most an image for each association. More files without rows mean that the
# database is another one, or an older copy: ten years of images must not be analysed at once.
_MOST_LEFTOVERS = 1000
_GROUP = 100
_RETRY_SECONDS = 30.0
_BACKLOG_POLL_SECONDS = 1.0
# A process that died and is not started again leaves a backlog that nobody works on.
_BACKLOG_PATIENCE_SECONDS = 600.0
# A volume that is not mounted makes every row one without its file.
_MOST_LINES = 1000

_EVENTS = {
    Kind.UNINDEXED: ("info", "file.recovered"),
    Kind.DAMAGED: ("warning", "file.quarantined"),
    Kind.ALTERED: ("error", "file.altered"),
    Kind.MISSING: ("error", "file.missing"),
    Kind.ORPHANED: ("error", "file.orphaned"),
    Kind.RETURNED: ("info", "file.returned"),
    Kind.SURPLUS: ("warning", "file.surplus"),
    Kind.FOREIGN: ("warning", "file.foreign"),
    Kind.UNREADABLE: ("error", "file.unreadable"),
    Kind.REFUSED: ("error", "file.refused"),
}


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What one recovery found.

    Attributes
    ----------
    n_temporary : int
        Unfinished files of dead processes, removed.
    n_files, n_rows : int
        Image files and instance rows looked at.
    n_recovered : int
        Whole files without a row that have one now.
    n_quarantined : int
        Files without a row that were cut short; nobody was told that they are kept.
    n_missing : int
        Rows whose file is gone, those found before included; sending the image again heals them.
    n_returned : int
        Rows that were marked missing and have their file again.
    n_altered : int
        Files of another size than their row says.
    n_orphaned : int
        Rows whose study or series has none; ``preread db reindex`` makes them.
    n_unresolved : int
        Files left as they are: foreign, surplus, unreadable, or refused by the database.
    seconds : float
        From the first look to the last.
    """

    n_temporary: int
    n_files: int
    n_rows: int
    n_recovered: int
    n_quarantined: int
    n_missing: int
    n_returned: int
    n_altered: int
    n_orphaned: int
    n_unresolved: int
    seconds: float


class _Stopped(Exception):  # noqa: N818 - not an error: it ends the pass
    """The node stops."""


class Recovery:
    """Resolves and reports what files and rows do not have in common.

    Parameters
    ----------
    files, ingest, engine
        The parts of the node that receives.
    grace_seconds : float, default 60
        Files younger than this at the start may be being received; they are looked at again when
        as much time has passed.
    rest : float, default 9
        How long to rest for each second of work.
    clock : callable
        Returns the time as aware UTC.
    """

    def __init__(
        self,
        files: FileStore,
        ingest: Ingest,
        engine: sa.Engine,
        *,
        grace_seconds: float = 60.0,
        rest: float = 9.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._files = files
        self._ingest = ingest
        self._engine = engine
        self._grace_seconds = grace_seconds
        self._rest = rest
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._resumed = 0.0
        self._lines: Counter[Kind] = Counter()

    def start(self) -> None:
        """Recover in a thread of its own."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the file in hand; the next start begins anew."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_once()
            except _Stopped:
                return
            except Exception as error:  # noqa: BLE001 - thread boundary: tried again
                # The text of a database error may quote values.
                _LOG.error("recovery.failed", error=type(error).__name__)
                self._stopping.wait(_RETRY_SECONDS)
            else:
                return

    def run_once(self) -> RecoveryReport | None:
        """Recover; None if another process of this node does."""
        with claimed(self._files.root / LOCK_NAME) as mine:
            if not mine:
                _LOG.info("recovery.left", reason="another process does it")
                return None
            report = self._recover()
        _LOG.info("recovery.done", **asdict(report))
        return report

    def _recover(self) -> RecoveryReport:
        started, now_ns = time.monotonic(), time.time_ns()
        folder = self._files.root / "incoming"
        n_temporary = self._files.clear_incoming()
        self._await_backlog()
        self._resumed = time.thread_time()
        work = Reconciliation(self._files, self._engine, self._report, self._pace)
        with ArrivalOrder(folder) as settled, ArrivalOrder(folder) as recent:
            work.list_files(settled, recent, now_ns - int(self._grace_seconds * 1e9))
            self._index(work, settled)
            work.check_rows(verify=False, mark_at=self._clock())
            if len(recent):
                self._wait(started + self._grace_seconds - time.monotonic())
                with ArrivalOrder(folder) as still:
                    work.list_again(recent, still)
                    self._index(work, still)
        return _summary(work, n_temporary, time.monotonic() - started)

    def _await_backlog(self) -> None:
        """Let those rows come first that only wait for the database: they know who sent them."""
        patient_until = time.monotonic() + _BACKLOG_PATIENCE_SECONDS
        while inventory.count_backlog(self._files) and time.monotonic() < patient_until:
            self._wait(_BACKLOG_POLL_SECONDS)

    def _index(self, work: Reconciliation, order: ArrivalOrder) -> None:
        outcomes = (read_one(self._files, path, RECOVERED) for path in order)
        if len(order) <= _MOST_LEFTOVERS:
            work.index(outcomes, self._add, 1)
            return
        _LOG.warning(
            "recovery.index_lost",
            n_files=len(order),
            reason="too many files without rows for a crash: indexed, but sent to no model; "
            "`preread db reindex --analyse` sends them",
        )
        placed = Placed(REBUILT, self._clock())
        work.index(outcomes, lambda records: rebuild(self._engine, records, placed), _GROUP)

    def _add(self, records: Sequence[InstanceRecord]) -> frozenset[str]:
        """Make rows like those of new images: their series are open."""
        made = set()
        for record in records:
            added = self._ingest.add(record)
            if added is not Added.EQUAL:
                made.add(record.path)
            if added is Added.REVISED:
                with self._engine.begin() as connection:
                    number_by_arrival(connection, [record.sop_instance_uid])
        return frozenset(made)

    def _pace(self, _count: int) -> None:
        # The processor's time, not the clock's: waiting is no work, nor is being kept waiting.
        self._wait(self._rest * (time.thread_time() - self._resumed))
        self._resumed = time.thread_time()

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(max(0.0, seconds)):
            raise _Stopped

    def _report(self, found: Discrepancy) -> None:
        self._lines[found.kind] += not found.known
        if found.known or self._lines[found.kind] > _MOST_LINES:
            return
        level, event = _EVENTS[found.kind]
        # What a stranger called a file may name a patient.
        path = found.path.rpartition("/")[0] if found.kind is Kind.FOREIGN else found.path
        details = {
            "path": path,
            "instance": found.sop_instance_uid,
            "study": found.study_instance_uid,
            "reason": found.reason or None,
        }
        getattr(_LOG, level)(event, **{key: value for key, value in details.items() if value})


def _summary(work: Reconciliation, n_temporary: int, seconds: float) -> RecoveryReport:
    counts = work.counts
    left = (Kind.FOREIGN, Kind.SURPLUS, Kind.UNREADABLE, Kind.REFUSED)
    return RecoveryReport(
        n_temporary=n_temporary,
        n_files=work.n_files,
        n_rows=work.n_rows,
        n_recovered=counts[Kind.UNINDEXED],
        n_quarantined=counts[Kind.DAMAGED],
        n_missing=counts[Kind.MISSING],
        n_returned=counts[Kind.RETURNED],
        n_altered=counts[Kind.ALTERED],
        n_orphaned=counts[Kind.ORPHANED],
        n_unresolved=sum(counts[kind] for kind in left),
        seconds=round(seconds, 3),
    )
