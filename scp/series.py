"""Completeness: finds series that have all their images, routes them and hands them on.

An association is never a study, and its end is no sign: senders open one for each image or keep one
for a day. A series is complete when it was quiet for a while and nobody who is still connected is
sending it. The state of the series, its routing and whatever `on_complete` enqueues are one
transaction.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import sqlalchemy as sa
import structlog

from db import completeness, corrections, loop_guard
from db.completeness import DueSeries, Sender
from db.files import FileStore

from .clock_steps import ClockSteps
from .heard import HeardAhead, WentForward
from .routing import Own, SeriesRouter
from .rule_settings import RuleSettings
from .rules import Decision
from .settings import ScpSettings

_LOG = structlog.get_logger()
_RETRY_FIRST_SECONDS = 2.0
_JUST_AFTER_SECONDS = 0.002
_RETRY_MAX_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class CompleteSeries:
    """A series with all its images; results of our own and what is no image are left out.

    Attributes
    ----------
    instance_digest : str
        Identifies the set of images (SHA-256); equal sets are never analysed twice.
    instance_ids : tuple of int
        Rows of the newest revision of each SOP instance, in the order of their SOP Instance UIDs.
    """

    series_instance_uid: str
    study_instance_uid: str
    trace_id: str
    instance_digest: str
    instance_ids: tuple[int, ...]
    n_instances: int
    last_received_at: datetime


OnComplete: TypeAlias = Callable[[sa.Connection, CompleteSeries, Decision], Decision]
OwnDevices: TypeAlias = Callable[[sa.Connection], frozenset[str]]


class _Changed(Exception):  # noqa: N818 - not an error: it rolls the transaction back
    """An image came while the series was being completed."""


class SeriesWatch:
    """Looks at open series again and again.

    Parameters
    ----------
    engine, files
        Where rows and images are.
    settings : ScpSettings
        Quiet time, patience with open associations, how often to look.
    rules : sequence of RuleSettings
        From `rules_in_force`.
    on_complete : callable
        Called inside the transaction that completes the series; what it raises undoes it. Returns
        the decision, or what became of it.
    own_devices : callable
        Returns the Device UIDs of our models, by which results that come back are known.
    clock : callable
        Returns the time as aware UTC.
    routed : callable
        Called after a series was completed of which there is something to do.
    steady : callable
        Returns seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        engine: sa.Engine,
        files: FileStore,
        settings: ScpSettings,
        rules: Sequence[RuleSettings],
        on_complete: OnComplete,
        own_devices: OwnDevices = lambda _connection: frozenset(),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        routed: Callable[[], None] = lambda: None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._routed = routed
        self._router = SeriesRouter(files, rules)
        self._on_complete = on_complete
        self._own_devices = own_devices
        self._clock = clock
        self._steady = steady
        self._steps = ClockSteps(steady)
        self._ahead = HeardAhead(settings.quiet_seconds, settings.open_association_seconds)
        self._forward = WentForward(max(settings.quiet_seconds, settings.open_association_seconds))
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        # By series how often it failed, and when it is tried again, by the steady clock.
        self._retries: dict[str, tuple[int, float]] = {}

    def start(self) -> None:
        """Watch in a thread of its own."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self.run, name="series-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the series in hand."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def run(self) -> None:
        """Watch until `stop` is called."""
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = self._settings.poll_seconds
            try:
                self.run_once()
                pause = self._until_next()
            except Exception as error:  # noqa: BLE001 - thread boundary: the watch must go on
                # The text of a database error may quote values.
                _LOG.error("series.watch_failed", error=type(error).__name__)
                self._stopping.wait(_RETRY_FIRST_SECONDS)

    def run_once(self) -> int:
        """Look once at all open series; return how many were completed."""
        now, seconds = self._clock(), self._steady()
        self._look_at_clock(now, seconds)
        quiet, silent = (
            timedelta(seconds=asked + self._forward.within(asked, seconds))
            for asked in (self._settings.quiet_seconds, self._settings.open_association_seconds)
        )
        waiting = [uid for uid, (_, not_before) in self._retries.items() if not_before > seconds]
        with self._engine.connect() as connection:
            due = completeness.due(connection, now - quiet, now - silent, except_for=waiting)
            ahead = completeness.ahead(connection, now, except_for=waiting)
        due += self._ahead.quiet(ahead, seconds)
        completed = 0
        for series in due:
            if self._stopping.is_set():
                break
            completed += self._try(series)
        return completed

    def _look_at_clock(self, now: datetime, seconds: float) -> None:
        if (step := self._steps.since(now)) > 0:
            self._forward.note(step, seconds)
            _LOG.warning("series.clock_went_forward", seconds=round(step, 1))

    def _until_next(self) -> float:
        """Return how long until the next series may be quiet for long enough, or the next look."""
        now, quiet = self._clock(), timedelta(seconds=self._settings.quiet_seconds)
        with self._engine.connect() as connection:
            latest = completeness.next_quiet(connection, now - quiet)
        if latest is None:
            return self._settings.poll_seconds
        seconds = (latest + quiet - now).total_seconds() + _JUST_AFTER_SECONDS
        # Of a time that is still to come nobody knows when it will be quiet.
        most = self._settings.quiet_seconds if self._ahead else self._settings.poll_seconds
        return min(seconds, most, self._settings.poll_seconds)

    def _try(self, series: DueSeries) -> bool:
        log = _LOG.bind(trace=series.trace_id, series=series.series_instance_uid)
        try:
            done = self._complete(series, log)
        except Exception as error:  # noqa: BLE001 - one series must not stop the others
            attempts = self._retries.get(series.series_instance_uid, (0, 0.0))[0] + 1
            wait = min(_RETRY_FIRST_SECONDS * 2 ** (attempts - 1), _RETRY_MAX_SECONDS)
            self._retries[series.series_instance_uid] = (attempts, self._steady() + wait)
            log.error(
                "series.failed", error=type(error).__name__, attempts=attempts, retry_seconds=wait
            )
            return False
        self._retries.pop(series.series_instance_uid, None)
        return done

    def _complete(self, seen: DueSeries, log: structlog.stdlib.BoundLogger) -> bool:
        started = time.monotonic()
        with self._engine.connect() as connection:
            instances = completeness.newest_instances(connection, seen.series_instance_uid)
            own = Own(
                loop_guard.own_instances(connection, seen.series_instance_uid),
                self._own_devices(connection),
            )
            same_patient = corrections.patient_ids(connection, seen.study_instance_uid)
            senders = self._senders(connection, seen.series_instance_uid)
        routed = self._router.route(instances, own, same_patient, senders)
        complete = CompleteSeries(
            seen.series_instance_uid,
            instances[0].study_instance_uid if instances else seen.study_instance_uid,
            seen.trace_id,
            completeness.digest(routed.instances),
            tuple(one.id for one in routed.instances),
            len(routed.instances),
            seen.last_received_at,
        )
        try:
            with self._engine.begin() as connection:
                whole = completeness.digest(instances)
                decision = self._commit(connection, seen, whole, complete, routed.decision)
        except _Changed:
            return False
        log.info(
            "series.completed",
            n_instances=len(instances),
            models=[route.model for route in decision.routes],
            seconds=round(time.monotonic() - started, 3),
        )
        if decision.routes:
            self._routed()
        return True

    def _senders(self, connection: sa.Connection, series: str) -> frozenset[Sender]:
        if not self._router.asks_sender:
            return frozenset()
        return completeness.senders(connection, series)

    def _commit(
        self, connection: sa.Connection, seen: DueSeries, whole: str, complete: CompleteSeries,
        decision: Decision,
    ) -> Decision:  # fmt: skip
        marked = completeness.mark_complete(
            connection, seen, whole, decision.to_json(), self._clock()
        )
        if not marked:
            raise _Changed
        # The guard is a time, and rows may be committed in another order than their times: now that
        # this transaction holds the series, look at its instances once more.
        instances = completeness.newest_instances(connection, seen.series_instance_uid)
        if completeness.digest(instances) != whole:
            raise _Changed
        done = self._on_complete(connection, complete, decision)
        if done != decision:
            completeness.amend_routing(connection, seen.series_instance_uid, done.to_json())
        return done
