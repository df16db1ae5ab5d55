"""The associations that are open now, and their rows in the association ledger."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from db.associations import AssociationClosing, AssociationCounts, AssociationRecord
from db.ingest import Ingest
from db.schema import AssociationEnd

from .stock_reports import StockReports

_LOG = structlog.get_logger()
# Of rejected associations the ledger keeps so many a minute: a peer that asks ten times a second
# for weeks must not fill the database. The log has them all.
_REJECTIONS_PER_MINUTE = 120


@dataclass(slots=True)
class OpenAssociation:
    """One open association; its counters belong to the association's own thread."""

    record: AssociationRecord
    thread: threading.Thread
    n_received: int = 0
    n_equal: int = 0
    n_bytes: int = 0
    provider_aborted: bool = False
    refusals: Counter[int] = field(default_factory=Counter)
    stock_reports: StockReports | None = None

    def count(self, n_bytes: int, status: int, *, duplicate: bool = False) -> None:
        """Count one C-STORE.

        Parameters
        ----------
        n_bytes : int
            Size of its data set.
        status : int
            What was answered: 0x0000 or a reason for refusal (PS3.4 Table B.2-1).
        duplicate : bool
            The same bytes were here before.
        """
        if status:
            self.refusals[status] += 1
        else:
            self.n_received += 1
            self.n_equal += duplicate
        self.n_bytes += n_bytes

    @property
    def counts(self) -> AssociationCounts:
        """What came so far."""
        return AssociationCounts(
            n_received=self.n_received,
            n_refused=self.refusals.total(),
            n_bytes=self.n_bytes,
            n_equal=self.n_equal,
            refusals={f"0x{status:04X}": n for status, n in sorted(self.refusals.items())},
        )


class Ledger:
    """Keeps the ledger of one acceptor.

    The ledger informs; it never decides over images and never waits for the database.

    Parameters
    ----------
    ingest : Ingest
        Writes the rows, together with those of images where there are any.
    acceptor_id : str
        Names this acceptor for good, also after a restart.
    clock : callable
        Returns the time as aware UTC.
    """

    def __init__(
        self,
        ingest: Ingest,
        acceptor_id: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ingest = ingest
        self._acceptor = acceptor_id
        self._clock = clock
        self._guard = threading.Lock()
        self._open: dict[threading.Thread, OpenAssociation] = {}
        self._minute = -1
        self._n_rejected = 0

    def close_lost(self) -> None:
        """Close the rows that an earlier process of this acceptor left open."""
        self._ingest.close_lost(self._acceptor, self._clock())

    def open(self, thread: threading.Thread, record: AssociationRecord) -> OpenAssociation:
        """Enter an association that was accepted; `thread` serves it."""
        entry = OpenAssociation(record, thread)
        with self._guard:
            self._open[thread] = entry
        self._ingest.enter(record)
        _LOG.info(
            "association.opened",
            trace=record.id,
            calling_ae=record.calling_ae,
            peer_host=record.peer_host,
        )
        return entry

    def rejected(self, record: AssociationRecord, reason: str) -> None:
        """Enter an association that was rejected; `reason` names the setting to change."""
        _LOG.warning(
            "association.rejected",
            calling_ae=record.calling_ae,
            peer_host=record.peer_host,
            reason=reason,
        )
        if self._may_enter_rejection():
            self._ingest.leave(
                AssociationClosing(
                    record, AssociationCounts(), record.opened_at, AssociationEnd.REJECTED, reason
                )
            )

    def of(self, thread: threading.Thread) -> OpenAssociation | None:
        """Return the entry of an association that is open."""
        return self._open.get(thread)

    def close(self, thread: threading.Thread, ended_by: AssociationEnd) -> bool:
        """Enter how an association ended; only the first call counts, the others return False."""
        with self._guard:
            entry = self._open.pop(thread, None)
        if entry is None:
            return False
        counts = entry.counts
        self._ingest.leave(AssociationClosing(entry.record, counts, self._clock(), ended_by))
        _LOG.info(
            "association.ended",
            trace=entry.record.id,
            ended_by=str(ended_by),
            n_received=counts.n_received,
            n_equal=counts.n_equal,
            n_refused=counts.n_refused,
            n_bytes=counts.n_bytes,
        )
        return True

    def sweep(self) -> None:
        """Close the entries of associations whose thread has died without a word."""
        for thread in [thread for thread in list(self._open) if not thread.is_alive()]:
            self.close(thread, AssociationEnd.LOST)

    def _may_enter_rejection(self) -> bool:
        minute = int(time.monotonic() // 60)
        with self._guard:
            if minute != self._minute:
                self._minute, self._n_rejected = minute, 0
            self._n_rejected += 1
            return self._n_rejected <= _REJECTIONS_PER_MINUTE
