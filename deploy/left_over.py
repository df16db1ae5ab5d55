"""Gives up, at their deadlines, what waits for destinations and targets of earlier settings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from db import left_over

_log = structlog.get_logger()
_SECONDS_BETWEEN = 600.0


class LeftOver:
    """Looks for it at the start and every ten minutes.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    destinations, targets : collection of str
        Names in the settings, as deliveries and notifications bear them.
    clock : callable
        Returns the time as aware UTC.
    """

    def __init__(
        self,
        engine: sa.Engine,
        destinations: Collection[str],
        targets: Collection[str],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._destinations = destinations
        self._targets = targets
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start looking and return."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="left-over", daemon=True)
        self._thread.start()

    def tell_to_stop(self) -> None:
        """Begin nothing new; return at once."""
        self._stopping.set()

    def stop(self, seconds: float = 30.0) -> None:
        """Stop after the look in hand, or when the time is over."""
        self.tell_to_stop()
        if self._thread is not None:
            self._thread.join(seconds)
            self._thread = None

    def run_once(self) -> int:
        """Give up what is due; return how much that was."""
        now = self._clock()
        with self._engine.begin() as connection:
            deliveries = left_over.expire_deliveries(connection, self._destinations, now)
            notifications = left_over.expire_notifications(connection, self._targets, now)
        for one in deliveries:
            _log.error("delivery.dead", trace=one.trace_id, delivery=one.id,
                       destination=one.name, reason=one.reason)  # fmt: skip
        for one in notifications:
            _log.error("notification.dead", trace=one.trace_id, notification=one.id,
                       target=one.name, reason=one.reason)  # fmt: skip
        return len(deliveries) + len(notifications)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_once()
            except Exception as error:  # noqa: BLE001 - thread boundary: tried again
                # The text of a database error may quote values.
                _log.error("left_over.failed", error=type(error).__name__)
            self._stopping.wait(_SECONDS_BETWEEN)
