"""Sends notifications: each target has a thread of its own, so that a dead one holds up nobody.

An attempt is counted before it begins. A sender that dies between the answer of a target and its
entry sends once more when the lease is over, under the same identifier: at least once, never twice
under two names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import sqlalchemy as sa
import structlog

from db import FileStore, notifications, set_back
from db.notifications import DueNotification
from db.told import told
from scp.clock_steps import ClockSteps
from scp.sender_threads import SenderThreads, backoff

from ..errors import NotifyError
from .message import Channel, Message, identifier, read_order
from .settings import NotifySettings

_LOG = structlog.get_logger()
_POLL_SECONDS = 0.5
_RETRY_AFTER_CRASH_SECONDS = 5.0
# An attempt is bounded by the target's time-out; this is for reading and entering around it.
_LEASE_BEYOND_TIMEOUT_SECONDS = 60.0


def channel_of(settings: NotifySettings) -> Channel:
    """Return the way to a target."""
    # hl7apy is loaded only where somebody is told by HL7.
    if settings.kind == "hl7":
        from .mllp import Mllp

        return Mllp(settings)
    from .webhook import Webhook

    return Webhook(settings)


class Target:
    """Sends to one target.

    Parameters
    ----------
    engine, files
        Where the outbox and the images are.
    settings : NotifySettings
    clock : callable
        Returns the time as aware UTC.
    steps : ClockSteps or None
        Of that clock; without it nobody looks whether it was set.
    """

    def __init__(
        self,
        engine: sa.Engine,
        files: FileStore,
        settings: NotifySettings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        steps: ClockSteps | None = None,
    ) -> None:
        self._engine = engine
        self._files = files
        self._settings = settings
        self._clock = clock
        self._steps = steps
        self._channel = channel_of(settings)

    def run(self, stopping: threading.Event) -> None:
        """Send until told to stop."""
        while not stopping.is_set():
            try:
                busy = self.run_once()
            except Exception as error:  # noqa: BLE001 - thread boundary: the others go on too
                # The text of a database error may quote values.
                _LOG.error(
                    "notification.loop_failed",
                    target=self._settings.name,
                    error=type(error).__name__,
                )
                stopping.wait(_RETRY_AFTER_CRASH_SECONDS)
                continue
            if not busy:
                stopping.wait(_POLL_SECONDS)

    def run_once(self) -> int:
        """Try the notification that is due longest, if there is one; return how many were tried."""
        now = self._clock()
        lease = timedelta(seconds=self._settings.timeout + _LEASE_BEYOND_TIMEOUT_SECONDS)
        if self._steps is not None:
            then = partial(set_back.notifications, self._engine, self._settings.name, now, lease)
            self._steps.when_set_back(now, then)
        # First without the lock of a writer: there is hardly ever anything.
        with self._engine.connect() as connection:
            if not notifications.is_any_due(connection, self._settings.name, now):
                return 0
        with self._engine.begin() as connection:
            due = notifications.claim(
                connection, self._settings.name, now=now, leased_until=now + lease
            )
        for one in due:
            self._attempt(one)
        return len(due)

    def _attempt(self, due: DueNotification) -> None:
        log = _LOG.bind(
            trace=due.trace_id,
            notification=due.id,
            target=self._settings.name,
            analysis=due.analysis_id[:12],
            attempt=due.n_attempts,
        )
        try:
            status = self._send(due)
        except NotifyError as error:
            self._fail(due, error, log)
            return
        with self._engine.begin() as connection:
            notifications.mark_sent(connection, due, status, self._clock())
        log.info("notification.sent", status=status)

    def _send(self, due: DueNotification) -> str:
        if due.n_attempts > self._settings.max_attempts:
            raise NotifyError("given up: its last attempts never ended", lasting=True)
        if self._is_late(due, self._clock()):
            raise NotifyError("given up: its deadline is over", lasting=True)
        with self._engine.connect() as connection:
            found = told(connection, due.analysis_id)
        if found is None:
            raise NotifyError("the analysis was sent back to work")
        return self._channel.send(Message(identifier(due), found, read_order(self._files, found)))

    def _fail(
        self, due: DueNotification, error: NotifyError, log: structlog.stdlib.BoundLogger
    ) -> None:
        wait = backoff(
            due.n_attempts,
            self._settings.backoff_first_seconds,
            self._settings.backoff_max_seconds,
        )
        next_attempt = self._clock() + timedelta(seconds=wait)
        dead = (
            error.lasting
            or due.n_attempts >= self._settings.max_attempts
            or self._is_late(due, next_attempt)
        )
        with self._engine.begin() as connection:
            notifications.mark_failed(
                connection,
                due,
                error.in_full,
                status=error.status,
                next_attempt_at=None if dead else next_attempt,
            )
        if dead:
            log.error("notification.dead", reason=str(error))
        else:
            log.warning("notification.failed", reason=str(error), retry_seconds=round(wait, 1))

    def _is_late(self, due: DueNotification, moment: datetime) -> bool:
        return due.deadline_at is not None and moment >= due.deadline_at


class Notifier(SenderThreads):
    """Sends to all targets, each in its own thread."""

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__("notify", [one.run for one in targets])
