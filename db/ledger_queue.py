"""Rows of the association ledger that wait for the next transaction."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import structlog

from .associations import LedgerEntry, LostAcceptor

_LOG = structlog.get_logger()
_SECONDS_BETWEEN_LOG_LINES = 60.0


@dataclass(frozen=True, slots=True)
class LedgerBatch:
    """What goes into one transaction."""

    lost: tuple[LostAcceptor, ...] = ()
    entries: tuple[LedgerEntry, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.lost or self.entries)


class LedgerQueue:
    """Waiting rows, one for each association: its end takes the place of its opening.

    Parameters
    ----------
    limit : int, default 20000
        With more than so many rows the oldest ended association is forgotten. Open ones are not:
        the server limits them, and a series is complete only when no open one still sends it.
    """

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._guard = threading.Lock()
        self._written = threading.Condition(self._guard)
        self._lost: list[LostAcceptor] = []
        self._entries: dict[str, LedgerEntry] = {}
        self._n_in_hand = 0
        self._n_dropped = 0
        self._logged_at = float("-inf")

    def __len__(self) -> int:
        """Return how many rows wait, those in a transaction not counted."""
        return len(self._entries) + len(self._lost)

    def put(self, entry: LedgerEntry) -> None:
        """Add a row; it replaces an earlier one of its association."""
        with self._guard:
            self._entries.pop(entry.id, None)
            self._entries[entry.id] = entry
            dropped = len(self._entries) > self._limit and self._drop_oldest_ended()
        if dropped:
            self._log_dropped()

    def put_lost(self, lost: LostAcceptor) -> None:
        """Add that a process was killed; it is written before all openings."""
        with self._guard:
            self._lost.append(lost)

    def take(self) -> LedgerBatch:
        """Return all that wait; they must be given to `written` or `put_back` afterwards."""
        if not self._entries and not self._lost:
            return LedgerBatch()
        with self._guard:
            batch = LedgerBatch(tuple(self._lost), tuple(self._entries.values()))
            self._lost, self._entries = [], {}
            self._n_in_hand += 1
        return batch

    def written(self, batch: LedgerBatch) -> None:
        """Say that a batch is durable."""
        if batch:
            with self._guard:
                self._n_in_hand -= 1
                self._written.notify_all()

    def put_back(self, batch: LedgerBatch) -> None:
        """Return a batch that was not written; what was said since stands."""
        if batch:
            with self._guard:
                self._n_in_hand -= 1
                self._lost[:0] = batch.lost
                older = {one.id: one for one in batch.entries if one.id not in self._entries}
                self._entries = {**older, **self._entries}
                self._written.notify_all()

    def wait_empty(self, timeout: float) -> bool:
        """Wait until everything is written; False if that took longer than `timeout` seconds."""
        with self._guard:
            return self._written.wait_for(lambda: not (len(self) or self._n_in_hand), timeout)

    def _drop_oldest_ended(self) -> bool:
        ended = next((one.id for one in self._entries.values() if one.ended_at is not None), None)
        if ended is None:
            return False
        del self._entries[ended]
        self._n_dropped += 1
        return True

    def _log_dropped(self) -> None:
        """Say it once a minute, not for each of thousands."""
        now = time.monotonic()
        if now - self._logged_at >= _SECONDS_BETWEEN_LOG_LINES:
            self._logged_at = now
            _LOG.error("ledger.dropped", n_associations=self._n_dropped)
