"""Delivery of result objects: C-STORE to each destination, then proof.

Every destination has a thread of its own, so that a dead one holds up nobody else. The bytes that
are sent are the stored ones; sending an object again is harmless, because a PACS that has it keeps
it (PS3.4 Section B.2.2) and its SOP Instance UID never changes.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
import structlog

from db import deliveries
from db.deliveries import DueDelivery
from db.errors import DatabaseError
from db.files import FileStore
from db.schema import DeliveryState

from .errors import ScpError
from .find import holds_instance
from .part10 import read_layout
from .requestor import Context, Peer, is_stored, store_each
from .settings import DestinationSettings

_LOG = structlog.get_logger()
_POLL_SECONDS = 0.5
_RETRY_AFTER_CRASH_SECONDS = 5.0
# One object an association: a failure then says which object it was, and results are few.
_CLAIM_LIMIT = 1


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A result object as it lies on disk."""

    context: Context
    sop_instance_uid: str
    content: bytes

    def data_set(self) -> bytes:
        """Return the bytes of its data set."""
        return self.content


class Destination:
    """Delivers to one destination.

    Parameters
    ----------
    engine, files
        Where the outbox and the objects are.
    settings : DestinationSettings
    calling_ae : str
        AE title to call with, unless the settings have one.
    clock : callable
        Returns the time as aware UTC.
    """

    def __init__(
        self,
        engine: sa.Engine,
        files: FileStore,
        settings: DestinationSettings,
        calling_ae: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._files = files
        self._settings = settings
        self._clock = clock
        self._peer = Peer(
            settings.host,
            settings.port,
            settings.ae_title,
            settings.calling_ae or calling_ae,
            settings.timeout,
        )
        self._states = [DeliveryState.PENDING]
        if settings.proof == "find":
            self._states.append(DeliveryState.SENT)

    def run(self, stopping: threading.Event) -> None:
        """Deliver until told to stop."""
        while not stopping.is_set():
            try:
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
        """Try every delivery that is due once at most; return how many were tried."""
        now = self._clock()
        # Associate, store, release and the proof's three: six exchanges, each within its time.
        lease = timedelta(seconds=6 * self._settings.timeout + 60)
        with self._engine.begin() as connection:
            due = deliveries.claim(
                connection,
                self._settings.name,
                self._settings.objects,
                self._states,
                now=now,
                leased_until=now + lease,
                limit=_CLAIM_LIMIT,
            )
        for delivery in due:
            self._attempt(delivery)
        return len(due)

    def _attempt(self, delivery: DueDelivery) -> None:
        log = _LOG.bind(
            trace=delivery.trace_id, delivery=delivery.id, destination=self._settings.name,
            instance=delivery.sop_instance_uid, attempt=delivery.n_attempts,
        )  # fmt: skip
        if delivery.n_attempts > self._settings.max_attempts:
            self._fail(delivery, "given up: its last attempts never ended", None, log)
            return
        try:
            # What was sent before may have arrived since: then it need not be sent again.
            if delivery.state == DeliveryState.SENT and self._prove(delivery, log):
                return
            status = self._store(delivery)
            if not is_stored(status):
                code = f"0x{status:04X}"
                self._fail(delivery, f"the destination refused the object ({code})", code, log)
                return
            self._sent(delivery, status, log)
            if self._settings.proof == "find" and not self._prove(delivery, log):
                self._fail(delivery, "sent, but C-FIND does not show the object", None, log)
        except (ScpError, DatabaseError) as error:
            self._fail(delivery, str(error), None, log)
        except OSError as error:
            self._fail(delivery, f"the object cannot be read: {error.strerror}", None, log)

    def _store(self, delivery: DueDelivery) -> int:
        content = self._files.absolute(delivery.path).read_bytes()
        layout = read_layout(content)
        stored = StoredObject(
            Context(delivery.sop_class_uid, layout.transfer_syntax_uid),
            delivery.sop_instance_uid,
            content[layout.data_set_offset :],
        )
        (answer,) = [answer for _, answer in store_each(self._peer, [stored])]
        if isinstance(answer, ScpError):
            raise answer
        return answer

    def _prove(self, delivery: DueDelivery, log: structlog.stdlib.BoundLogger) -> bool:
        held = holds_instance(
            self._peer,
            delivery.study_instance_uid,
            delivery.series_instance_uid,
            delivery.sop_instance_uid,
        )
        if held:
            with self._engine.begin() as connection:
                deliveries.mark_committed(connection, delivery.id, self._clock())
            log.info("delivery.committed")
        return held

    def _sent(self, delivery: DueDelivery, status: int, log: structlog.stdlib.BoundLogger) -> None:
        with self._engine.begin() as connection:
            deliveries.mark_sent(
                connection, delivery.id, f"0x{status:04X}", self._clock(),
                final=self._settings.proof == "none",
            )  # fmt: skip
        log.info("delivery.sent", status=f"0x{status:04X}")

    def _fail(
        self, delivery: DueDelivery, error: str, status: str | None,
        log: structlog.stdlib.BoundLogger,
    ) -> None:  # fmt: skip
        dead = delivery.n_attempts >= self._settings.max_attempts
        wait = self._backoff(delivery.n_attempts)
        next_attempt = None if dead else self._clock() + timedelta(seconds=wait)
        with self._engine.begin() as connection:
            deliveries.mark_failed(
                connection, delivery.id, error, status=status, next_attempt_at=next_attempt
            )
        if dead:
            log.error("delivery.dead", reason=error)
        else:
            log.warning("delivery.failed", reason=error, retry_seconds=round(wait, 1))

    def _backoff(self, n_attempts: int) -> float:
        """Return the wait after an attempt: doubling, bounded, spread by a tenth."""
        doubled = self._settings.backoff_first_seconds * 2.0 ** min(n_attempts - 1, 60)
        spread = random.uniform(0.95, 1.05)  # noqa: S311 - not for secrets
        return min(doubled, self._settings.backoff_max_seconds) * spread


class Deliverer:
    """Delivers to all destinations, each in its own thread."""

    def __init__(self, destinations: Sequence[Destination]) -> None:
        self._destinations = tuple(destinations)
        self._stopping = threading.Event()
        self._threads: tuple[threading.Thread, ...] = ()

    def start(self) -> None:
        """Start delivering and return."""
        self._stopping.clear()
        self._threads = tuple(
            threading.Thread(target=one.run, args=(self._stopping,), name="deliver", daemon=True)
            for one in self._destinations
        )
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float = 30.0) -> None:
        """Stop after the objects in hand, or when the time is over: leases bring them back."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=seconds)
