"""Answers to storage commitment requests whose association is over (PS3.4 Section J.3.3).

They go out on an association of their own, to the address that the ``[[ae]]`` table has of the
sender. The files are looked at before each attempt: what was true hours ago need not be so now.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import sqlalchemy as sa
import structlog

from db import commitments_asked, set_back
from db.commitments_asked import AskedCommitment
from db.errors import DatabaseError
from db.files import FileStore

from .clock_steps import ClockSteps
from .commitment_data import (
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    encoded,
    event_of,
)
from .commitment_desk import BACKLOG_PATIENCE, is_taken
from .errors import AssociationError, ScpError
from .event_report import send_event_report
from .requestor import Context, Peer, association
from .safekeeping import Safekeeping
from .settings import AeSettings
from .structure import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from .transport.reports import EventReport

_LOG = structlog.get_logger()
_POLL_SECONDS = 1.0
_RETRY_AFTER_CRASH_SECONDS = 5.0
_MOST_AT_ONCE = 4
_TIMEOUT_SECONDS = 30.0
_LEASE = timedelta(minutes=5)
_RENEW_AFTER = timedelta(minutes=1)
_LOOK_AGAIN = timedelta(seconds=2)
_BACKOFF_FIRST_SECONDS = 5.0
_BACKOFF_MOST_SECONDS = 900.0
# After so long a sender has asked anew, or somebody has looked after it.
_PATIENCE = timedelta(days=7)
_CONTEXTS = (
    Context(STORAGE_COMMITMENT, EXPLICIT_LITTLE),
    Context(STORAGE_COMMITMENT, IMPLICIT_LITTLE),
)


class CommitmentReporter:
    """Sends reports on associations of its own, one at a time to each sender.

    Parameters
    ----------
    engine, files
        Where requests, rows and images are.
    peers : sequence of AeSettings
        Where senders are reached.
    clock : callable
        Returns the time as aware UTC.
    steps : ClockSteps or None
        Of that clock; without it nobody looks whether it was set.
    """

    def __init__(
        self,
        engine: sa.Engine,
        files: FileStore,
        peers: Sequence[AeSettings],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        steps: ClockSteps | None = None,
    ) -> None:
        self._engine = engine
        self._safekeeping = Safekeeping(engine, files)
        self._peers = {one.name: one for one in peers}
        self._clock = clock
        self._steps = steps
        self._stopping = threading.Event()
        # Added to by one thread; operations on it are atomic.
        self._busy: set[str] = set()
        self._thread: threading.Thread | None = None
        self._attempts: list[threading.Thread] = []

    def start(self) -> None:
        """Start and return."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="commitment-report", daemon=True)
        self._thread.start()

    def tell_to_stop(self) -> None:
        """Begin nothing new; return at once."""
        self._stopping.set()

    def stop(self, seconds: float = 30.0) -> None:
        """Stop after the reports in hand, or when the time is over: leases bring them back."""
        self.tell_to_stop()
        deadline = time.monotonic() + seconds
        if self._thread is not None:
            self._thread.join(seconds)
            self._thread = None
        for attempt in self._attempts:
            attempt.join(max(0.0, deadline - time.monotonic()))

    def run_once(self) -> bool:
        """Claim one request that is due and try to answer it; False if there is none."""
        asked = self._claim()
        if asked is None:
            return False
        self._attempt(asked)
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._attempts = [one for one in self._attempts if one.is_alive()]
            try:
                asked = self._claim() if len(self._busy) < _MOST_AT_ONCE else None
            except Exception as error:  # noqa: BLE001 - thread boundary: the database is away
                _LOG.error("commitment.loop_failed", error=type(error).__name__)
                self._stopping.wait(_RETRY_AFTER_CRASH_SECONDS)
                continue
            if asked is None:
                self._stopping.wait(_POLL_SECONDS)
                continue
            # Not those of a pool, for which the end of the process waits however long they take.
            attempt = threading.Thread(
                target=self._attempt, args=(asked,), name="commitment", daemon=True
            )
            attempt.start()
            self._attempts.append(attempt)

    def _claim(self) -> AskedCommitment | None:
        now = self._clock()
        if self._steps is not None:
            self._steps.when_set_back(now, partial(set_back.answers, self._engine, now, _LEASE))
        # First without the lock of a writer: there is hardly ever anything.
        with self._engine.connect() as connection:
            if not commitments_asked.has_due(connection, now):
                return None
        with self._engine.begin() as connection:
            asked = commitments_asked.claim(
                connection, now=now, leased_until=now + _LEASE, busy=tuple(self._busy)
            )
        if asked is not None:
            self._busy.add(asked.calling_ae)
        return asked

    def _attempt(self, asked: AskedCommitment) -> None:
        log = _LOG.bind(trace=asked.association_id, calling_ae=asked.calling_ae,
                        transaction=asked.transaction_uid, attempt=asked.n_attempts)  # fmt: skip
        try:
            self._answer(asked, log)
        except (ScpError, DatabaseError) as error:
            self._failed(asked, str(error), log)
        except Exception as error:  # noqa: BLE001 - thread boundary: its lease brings it back
            log.error("commitment.failed", error=type(error).__name__)
        finally:
            self._busy.discard(asked.calling_ae)

    def _answer(self, asked: AskedCommitment, log: structlog.stdlib.BoundLogger) -> None:
        peer = self._peers.get(asked.calling_ae)
        if peer is None:
            self._give_up(
                asked,
                "its association ended before the answer, and where the sender listens is not "
                f'known: add [[ae]] with name = "{asked.calling_ae}", host and port to '
                "preread.toml, and have it ask again",
                log,
            )
            return
        now = self._clock()
        failures = self._safekeeping.look(
            asked.instances,
            asked.association_id,
            is_last=now - asked.received_at > BACKLOG_PATIENCE,
            pace=self._renewal(asked),
        )
        with self._engine.begin() as connection:
            if failures is None:
                commitments_asked.put_off(connection, asked.id, now + _LOOK_AGAIN)
                return
            commitments_asked.mark_looked_at(connection, asked.id, failures)
        status = self._send(asked, failures, peer)
        if not is_taken(status):
            raise AssociationError(f"the answer was refused (0x{status:04X})")
        with self._engine.begin() as connection:
            commitments_asked.mark_reported(connection, asked.id, self._clock())
        log.info("commitment.reported", n_instances=len(asked.instances), n_failed=len(failures))

    def _send(self, asked: AskedCommitment, failures: dict[str, int], peer: AeSettings) -> int:
        """Send the report as provider, with the AE titles of the request; return the status."""
        called_ae = peer.ae_title or peer.name
        event_type, information = event_of(asked.transaction_uid, asked.instances, failures)
        where = Peer(peer.host, peer.port, called_ae, asked.called_ae, _TIMEOUT_SECONDS)
        with association(where, _CONTEXTS, provider_of=(STORAGE_COMMITMENT,)) as opened:
            context = opened.accepted_contexts[0]
            report = EventReport(
                int(context.context_id or 0),
                STORAGE_COMMITMENT,
                STORAGE_COMMITMENT_INSTANCE,
                event_type,
                encoded(information, str(context.transfer_syntax[0])),
                lambda _status: None,
            )
            return send_event_report(opened, report, 1, _TIMEOUT_SECONDS)

    def _renewal(self, asked: AskedCommitment) -> Callable[[], None]:
        renewed = self._clock()

        def pace() -> None:
            nonlocal renewed
            if self._stopping.is_set():
                raise AssociationError("the node stopped before the answer could be sent")
            if (now := self._clock()) - renewed > _RENEW_AFTER:
                renewed = now
                with self._engine.begin() as connection:
                    commitments_asked.renew(connection, [asked.id], now + _LEASE)

        return pace

    def _failed(
        self, asked: AskedCommitment, error: str, log: structlog.stdlib.BoundLogger
    ) -> None:
        now = self._clock()
        if now - asked.received_at > _PATIENCE:
            self._give_up(asked, f"given up after {_PATIENCE.days} days: {error}", log)
            return
        doubled = _BACKOFF_FIRST_SECONDS * 2.0 ** min(asked.n_attempts - 1, 60)
        spread = random.uniform(0.95, 1.05)  # noqa: S311 - not for secrets
        wait = timedelta(seconds=min(doubled, _BACKOFF_MOST_SECONDS) * spread)
        with self._engine.begin() as connection:
            commitments_asked.mark_failed(connection, asked.id, error, now + wait)
        log.warning("commitment.report_failed", reason=error, retry_seconds=wait.total_seconds())

    def _give_up(
        self, asked: AskedCommitment, error: str, log: structlog.stdlib.BoundLogger
    ) -> None:
        with self._engine.begin() as connection:
            commitments_asked.mark_failed(connection, asked.id, error, None)
        log.error("commitment.dead", reason=error)
