"""What became of deliveries, as it is entered and logged; and the circuit breaker.

A destination that cannot be reached several times in a row waits: nothing but one delivery at a
time is tried, and that costs it no attempt, so that a destination that is away for a day loses
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog

from db import deliveries, health
from db.deliveries import DueDelivery, Expired
from db.health import Health
from db.schema import Proof

from .errors import UnreachableError
from .sender_threads import backoff
from .settings import DestinationSettings

_LOG = structlog.get_logger()


class Outcomes:
    """Enters what became of the deliveries of one destination.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    settings : DestinationSettings
    clock : callable
        Returns the time as aware UTC.

    Attributes
    ----------
    health : Health
        How the destination does, as of the last claim and what happened since.
    """

    def __init__(
        self,
        engine: sa.Engine,
        settings: DestinationSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self.health = Health()

    def _log(self, delivery: DueDelivery) -> structlog.stdlib.BoundLogger:
        bound: structlog.stdlib.BoundLogger = _LOG.bind(
            trace=delivery.trace_id, delivery=delivery.id, destination=self._settings.name,
            instance=delivery.sop_instance_uid, attempt=delivery.n_attempts,
        )  # fmt: skip
        return bound

    def sent(self, delivery: DueDelivery, status: str) -> None:
        """Enter that the destination stored an object."""
        final = self._settings.proof == "none"
        with self._engine.begin() as connection:
            now = self._clock()
            deliveries.mark_sent(connection, delivery.id, status, now, final=final)
            health.note_reached(connection, self._settings.name, now, has_taken=True)
        self._works()
        self._log(delivery).info("delivery.sent", status=status)

    def committed(self, delivery: DueDelivery, note: str | None = None) -> None:
        """Enter that a query shows an object."""
        with self._engine.begin() as connection:
            deliveries.mark_committed(connection, delivery.id, self._clock(), Proof.FIND)
        self._log(delivery).info("delivery.committed", proof=Proof.FIND.value, note=note)

    def awaits(self, delivery: DueDelivery) -> None:
        """Leave a sent delivery until the answer to its storage commitment is overdue."""
        wait = timedelta(seconds=self._settings.commit_seconds)
        with self._engine.begin() as connection:
            deliveries.await_proof(connection, delivery.id, self._clock() + wait)

    def fell_back(self, delivery: DueDelivery, reason: str) -> None:
        """Say that a report goes out in another SOP class."""
        self._log(delivery).info(
            "delivery.fell_back", sop_class=delivery.sop_class_uid, reason=reason
        )

    def released(self, delivery: DueDelivery) -> None:
        """Give back what was not tried."""
        with self._engine.begin() as connection:
            deliveries.release(connection, delivery.id)

    def failed(
        self, delivery: DueDelivery, reason: str, status: str | None = None, *,
        counts: bool = True, is_final: bool = False,
    ) -> None:  # fmt: skip
        """Enter a failed attempt; the last one, a final one and a late one end the delivery."""
        now = self._clock()
        is_late = delivery.deadline_at is not None and now >= delivery.deadline_at
        is_last = counts and delivery.n_attempts >= self._settings.max_attempts
        is_dead = is_final or is_late or is_last
        if is_late and not is_final:
            assert delivery.deadline_at is not None
            reason = deliveries.at_deadline(delivery.deadline_at, reason)
        wait = self.backoff(delivery.n_attempts)
        with self._engine.begin() as connection:
            is_entered = deliveries.mark_failed(
                connection, delivery.id, reason, status=status, counts=counts,
                next_attempt_at=None if is_dead else now + timedelta(seconds=wait),
            )  # fmt: skip
        if not is_entered:
            self._log(delivery).info("delivery.ended_meanwhile", reason=reason)
        elif is_dead:
            self._log(delivery).error("delivery.dead", reason=reason)
        else:
            self._log(delivery).warning(
                "delivery.failed", reason=reason, retry_seconds=round(wait, 1)
            )

    def expired(self, given_up: Expired) -> None:
        """Say that a delivery was given up at its deadline."""
        _LOG.error(
            "delivery.dead", trace=given_up.trace_id, delivery=given_up.id,
            destination=self._settings.name, instance=given_up.sop_instance_uid,
            reason=given_up.reason,
        )  # fmt: skip

    def reached(self) -> None:
        """Enter that the destination answered, whatever it said."""
        if self.health.n_failures or self.health.is_waiting:
            with self._engine.begin() as connection:
                health.note_reached(connection, self._settings.name, self._clock(), has_taken=False)
        self._works()

    def _works(self) -> None:
        if self.health.is_waiting:
            _LOG.info("destination.working", destination=self._settings.name)
        self.health = Health()

    def unreachable(self, error: UnreachableError) -> bool:
        """Enter that the destination could not be reached; tell whether attempts count.

        They do where it broke off over an object, unless it does so to all of them.
        """
        now = self._clock()
        was_waiting = self.health.is_waiting
        failures = self.health.n_failures + 1
        beyond = failures - self._settings.breaker_failures
        wait = self.backoff(beyond + 1) if beyond >= 0 else None
        until = None if wait is None else now + timedelta(seconds=wait)
        with self._engine.begin() as connection:
            health.note_failure(connection, self._settings.name, str(error), now, until)
        self.health = replace(self.health, n_failures=failures, open_until=until)
        if wait is not None:
            _LOG.warning(
                "destination.waiting", destination=self._settings.name, reason=str(error),
                failures=failures, retry_seconds=round(wait, 1),
            )  # fmt: skip
        return error.has_begun and not was_waiting

    def backoff(self, n_attempts: int) -> float:
        """Return the wait after an attempt, by the settings of the destination."""
        settings = self._settings
        return backoff(n_attempts, settings.backoff_first_seconds, settings.backoff_max_seconds)
