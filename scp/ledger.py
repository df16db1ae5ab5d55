"""The associations that are open now, and their rows in the association ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from db import associations
from db.associations import AssociationCounts, AssociationRecord
from db.schema import AssociationEnd

_LOG = structlog.get_logger()


@dataclass(slots=True)
class OpenAssociation:
    """One open association; its counters belong to the association's own thread."""

    record: AssociationRecord
    thread: threading.Thread
    n_received: int = 0
    n_refused: int = 0
    n_bytes: int = 0
    provider_aborted: bool = field(default=False)

    def count(self, n_bytes: int, *, stored: bool) -> None:
        """Count one C-STORE."""
        self.n_received += stored
        self.n_refused += not stored
        self.n_bytes += n_bytes

    @property
    def counts(self) -> AssociationCounts:
        """What came so far."""
        return AssociationCounts(self.n_received, self.n_refused, self.n_bytes)


class Ledger:
    """Keeps the ledger of one acceptor.

    The ledger informs; it never decides over images. A database that is away is logged, and the
    association goes on.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    acceptor_id : str
        Names this acceptor for good, also after a restart.
    clock : callable
        Returns the time as aware UTC.
    """

    def __init__(
        self,
        engine: sa.Engine,
        acceptor_id: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._acceptor = acceptor_id
        self._clock = clock
        self._guard = threading.Lock()
        self._open: dict[threading.Thread, OpenAssociation] = {}

    def close_lost(self) -> None:
        """Close the rows that an earlier process of this acceptor left open."""
        with self._engine.begin() as connection:
            lost = associations.close_lost(connection, self._acceptor, self._clock())
        if lost:
            _LOG.warning("association.lost", n_associations=lost, acceptor=self._acceptor)

    def open(
        self, thread: threading.Thread, association_id: str, aes: tuple[str, str],
        peer: tuple[str, int],
    ) -> OpenAssociation:  # fmt: skip
        """Enter an association that was accepted; `aes` is calling and called AE title."""
        record = AssociationRecord(
            association_id, self._acceptor, aes[0], aes[1], peer[0], peer[1], self._clock()
        )
        entry = OpenAssociation(record, thread)
        with self._guard:
            self._open[thread] = entry
        self._write(entry, lambda connection: associations.open_association(connection, record))
        _LOG.info("association.opened", trace=association_id, calling_ae=aes[0], peer_host=peer[0])
        return entry

    def of(self, thread: threading.Thread) -> OpenAssociation | None:
        """Return the entry of an association that is open."""
        return self._open.get(thread)

    def close(self, thread: threading.Thread, ended_by: AssociationEnd) -> None:
        """Enter how an association ended; only the first call counts."""
        with self._guard:
            entry = self._open.pop(thread, None)
        if entry is None:
            return
        counts, ended_at = entry.counts, self._clock()
        self._write(
            entry,
            lambda connection: associations.close_association(
                connection, entry.record, counts, ended_at, ended_by
            ),
        )
        _LOG.info(
            "association.ended",
            trace=entry.record.id,
            ended_by=str(ended_by),
            n_received=counts.n_received,
            n_refused=counts.n_refused,
            n_bytes=counts.n_bytes,
        )

    def sweep(self) -> None:
        """Close the entries of associations whose thread has died without a word."""
        for thread in [thread for thread in list(self._open) if not thread.is_alive()]:
            self.close(thread, AssociationEnd.LOST)

    def _write(self, entry: OpenAssociation, write: Callable[[sa.Connection], None]) -> None:
        try:
            with self._engine.begin() as connection:
                write(connection)
        except sa.exc.SQLAlchemyError as error:
            _LOG.error(
                "association.not_recorded", trace=entry.record.id, error=type(error).__name__
            )
