"""Delivery of result objects: to each destination in its own thread, then proof.

A dead destination holds up nobody else. The bytes that are sent are the stored ones; sending an
object again is harmless, because a PACS that has it keeps it (PS3.4 Section B.2.2) and its SOP
Instance UID never changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import sqlalchemy as sa
import structlog

from db import commitments, deliveries, health, set_back
from db.deliveries import DueDelivery
from db.files import FileStore
from db.schema import DeliveryState

from .channel import Channel
from .clock_steps import ClockSteps
from .commitment_data import CommitmentAnswer
from .dicom_channel import DicomChannel, OnAnswer
from .dispatch import Dispatch
from .outcomes import Outcomes
from .parcels import Check, Fallback, Parcels, no_fault
from .places import peer_of
from .sender_threads import SenderThreads
from .settings import DestinationSettings
from .stow import StowChannel

_LOG = structlog.get_logger()
_POLL_SECONDS = 0.5
_RETRY_AFTER_CRASH_SECONDS = 5.0
# What one association takes of a study's objects; few enough for a lease of minutes.
_CLAIM_LIMIT = 8
# Time-outs that a round may take: objects begun within two of them and the last one, the requests
# for storage commitment, another association for these, a query.
_LEASE_TIMEOUTS = 12


@dataclass(frozen=True, slots=True)
class Guards:
    """What the other rooms say about objects before they are sent.

    Attributes
    ----------
    check : Check
        Tells what is wrong with an object.
    fallback : Fallback or None
        Makes reports anew in a class that more destinations take.
    """

    check: Check = no_fault
    fallback: Fallback | None = None


class Destination:
    """Delivers to one destination.

    Parameters
    ----------
    engine, files
        Where the outbox and the objects are.
    settings : DestinationSettings
        Of one place; see `scp.places`.
    calling_ae : str
        AE title to call with, unless the settings have one.
    clock : callable
        Returns the time as aware UTC.
    guards : Guards
        Check and fallback of objects; by default neither.
    steps : ClockSteps or None
        Of that clock; without it nobody looks whether it was set.
    """

    def __init__(
        self,
        engine: sa.Engine,
        files: FileStore,
        settings: DestinationSettings,
        calling_ae: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        guards: Guards = Guards(),
        steps: ClockSteps | None = None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._steps = steps
        self._outcomes = Outcomes(engine, settings, clock)
        parcels = Parcels(engine, files, guards.check, guards.fallback, clock)
        channel = _channel(settings, calling_ae, self._answered)
        self._dispatch = Dispatch(engine, settings, channel, parcels, self._outcomes, clock)
        self._states = [DeliveryState.PENDING]
        if settings.proof != "none":
            self._states.append(DeliveryState.SENT)

    def run(self, stopping: threading.Event) -> None:
        """Deliver until told to stop.

        A destination that waits is tried at once: what kept it from being reached may have been
        mended in the settings, for which the node was started anew.
        """
        begun = False
        while not stopping.is_set():
            try:
                if not begun:
                    with self._engine.begin() as connection:
                        health.end_wait(connection, self._settings.name, self._clock())
                    begun = True
                busy = self.run_once()
            except Exception as error:  # noqa: BLE001 - thread boundary: the others go on too
                # The text of a database error may quote values.
                _LOG.error(
                    "delivery.loop_failed",
                    destination=self._settings.name,
                    error=type(error).__name__,
                )
                stopping.wait(_RETRY_AFTER_CRASH_SECONDS)
                continue
            if not busy:
                stopping.wait(_POLL_SECONDS)

    def run_once(self) -> int:
        """Try what is due together, each delivery once at most; return how many were tried."""
        due = self._claim()
        found = self._outcomes.health
        usable = [one for one in due if not self._is_used_up(one)]
        if usable:
            self._dispatch.run(usable)
        if due and found.open_until is not None and self._outcomes.health is found:
            # It was no probe after all: the object had a fault, or had been tried too often.
            with self._engine.begin() as connection:
                health.hold(connection, self._settings.name, found.open_until)
        return len(due)

    def _claim(self) -> list[DueDelivery]:
        name, objects, states = self._settings.name, self._settings.objects, self._states
        now = self._clock()
        timeouts = timedelta(seconds=_LEASE_TIMEOUTS * self._settings.timeout)
        lease = timeouts + timedelta(seconds=self._settings.commit_hold_seconds + 60)
        if self._steps is not None:
            then = partial(set_back.deliveries, self._engine, name, now, lease)
            self._steps.when_set_back(now, then)
        with self._engine.connect() as connection:
            if not deliveries.is_any_due(connection, name, objects, states, now):
                return []
        until = now + lease
        due: list[DueDelivery] = []
        with self._engine.begin() as connection:
            expired = deliveries.expire(connection, name, states, now)
            found = health.load(connection, name)
            if found.open_until is None or found.open_until <= now:
                due = deliveries.claim(
                    connection, name, objects, states, now=now, leased_until=until,
                    limit=1 if found.is_waiting else _CLAIM_LIMIT,
                )  # fmt: skip
                if due and found.is_waiting:
                    health.hold(connection, name, until)
        self._outcomes.health = found
        for one in expired:
            self._outcomes.expired(one)
        return due

    def _is_used_up(self, delivery: DueDelivery) -> bool:
        if delivery.n_attempts <= self._settings.max_attempts:
            return False
        reason = "given up: its last attempts never ended"
        if delivery.last_error is not None:
            reason = f"given up after {self._settings.max_attempts} attempts: {delivery.last_error}"
        self._outcomes.failed(delivery, reason, counts=False, is_final=True)
        return True

    def _answered(self, answer: CommitmentAnswer) -> None:
        with self._engine.begin() as connection:
            known = commitments.record_answer(
                connection, answer.transaction_uid, answer.committed, answer.failed, self._clock()
            )
        _LOG.info(
            "commitment.answered", destination=self._settings.name, known=known,
            transaction=answer.transaction_uid, committed=len(answer.committed),
            failed=sorted({f"0x{reason:04X}" for reason in answer.failed.values()}),
        )  # fmt: skip


def _channel(settings: DestinationSettings, calling_ae: str, on_answer: OnAnswer) -> Channel:
    if settings.url is not None:
        return StowChannel(settings)
    return DicomChannel(peer_of(settings, calling_ae), on_answer)


class Deliverer(SenderThreads):
    """Delivers to all destinations, each in its own thread."""

    def __init__(self, destinations: Sequence[Destination]) -> None:
        super().__init__("deliver", [one.run for one in destinations])
