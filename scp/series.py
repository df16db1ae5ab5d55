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

from db import completeness
from db.completeness import DueSeries, SeriesInstance
from db.files import FileStore

from .conditions import Facts
from .errors import Part10Error
from .facts import FactsReader
from .rules import Decision, decide, keywords_needed, merge
from .settings import RuleSettings, ScpSettings

_LOG = structlog.get_logger()
# Headers that are asked where a series goes: enough to find the frontal view of a radiographic
# examination and to look past the localizer of a CT, few enough for series of a thousand slices.
_MAX_HEADERS = 16
_RETRY_FIRST_SECONDS = 2.0
_RETRY_MAX_SECONDS = 300.0
_UNREADABLE = Decision((), ("a header that cannot be read",))
_MIXED = "images of several studies or patients bear this Series Instance UID: read by no model"


@dataclass(frozen=True, slots=True)
class CompleteSeries:
    """A series with all its images.

    Attributes
    ----------
    instance_digest : str
        Identifies the set of instances (SHA-256); equal sets are never analysed twice.
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


OnComplete: TypeAlias = Callable[[sa.Connection, CompleteSeries, Decision], None]


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
        Called inside the transaction that completes the series; what it raises undoes it.
    clock : callable
        Returns the time as aware UTC.
    """

    def __init__(
        self,
        engine: sa.Engine,
        files: FileStore,
        settings: ScpSettings,
        rules: Sequence[RuleSettings],
        on_complete: OnComplete,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._files = files
        self._settings = settings
        self._rules = tuple(rules)
        self._facts = FactsReader(keywords_needed(self._rules))
        self._on_complete = on_complete
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._retries: dict[str, tuple[int, datetime]] = {}

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
        while not self._stopping.wait(self._settings.poll_seconds):
            try:
                self.run_once()
            except Exception as error:  # noqa: BLE001 - thread boundary: the watch must go on
                # The text of a database error may quote values.
                _LOG.error("series.watch_failed", error=type(error).__name__)
                self._stopping.wait(_RETRY_FIRST_SECONDS)

    def run_once(self) -> int:
        """Look once at all open series; return how many were completed."""
        now = self._clock()
        quiet = timedelta(seconds=self._settings.quiet_seconds)
        silent = timedelta(seconds=self._settings.open_association_seconds)
        waiting = [uid for uid, (_, not_before) in self._retries.items() if not_before > now]
        with self._engine.connect() as connection:
            due = completeness.due(connection, now - quiet, now - silent, except_for=waiting)
        completed = 0
        for series in due:
            if self._stopping.is_set():
                break
            completed += self._try(series)
        return completed

    def _try(self, series: DueSeries) -> bool:
        log = _LOG.bind(trace=series.trace_id, series=series.series_instance_uid)
        try:
            done = self._complete(series, log)
        except Exception as error:  # noqa: BLE001 - one series must not stop the others
            attempts = self._retries.get(series.series_instance_uid, (0, None))[0] + 1
            wait = min(_RETRY_FIRST_SECONDS * 2 ** (attempts - 1), _RETRY_MAX_SECONDS)
            retry_at = self._clock() + timedelta(seconds=wait)
            self._retries[series.series_instance_uid] = (attempts, retry_at)
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
        decision = self._decide(instances)
        complete = CompleteSeries(
            seen.series_instance_uid,
            instances[0].study_instance_uid if instances else seen.study_instance_uid,
            seen.trace_id,
            completeness.digest(instances),
            tuple(one.id for one in instances),
            len(instances),
            seen.last_received_at,
        )
        try:
            with self._engine.begin() as connection:
                self._commit(connection, seen, complete, decision)
        except _Changed:
            return False
        log.info(
            "series.completed",
            n_instances=complete.n_instances,
            models=[route.model for route in decision.routes],
            seconds=round(time.monotonic() - started, 3),
        )
        return True

    def _commit(
        self, connection: sa.Connection, seen: DueSeries, complete: CompleteSeries,
        decision: Decision,
    ) -> None:  # fmt: skip
        marked = completeness.mark_complete(
            connection, seen, complete.instance_digest, decision.to_json(), self._clock()
        )
        if not marked:
            raise _Changed
        # The guard is a time, and rows may be committed in another order than their times: now that
        # this transaction holds the series, look at its instances once more.
        instances = completeness.newest_instances(connection, seen.series_instance_uid)
        if completeness.digest(instances) != complete.instance_digest:
            raise _Changed
        self._on_complete(connection, complete, decision)

    def _decide(self, instances: Sequence[SeriesInstance]) -> Decision:
        if len({(one.study_instance_uid, one.patient_id) for one in instances}) > 1:
            # Read as one series, the images of one patient would speak for another.
            return Decision((), (_MIXED,))
        step = max(1, -(-len(instances) // _MAX_HEADERS))
        headers = [self._read(one) for one in instances[::step]]
        # Most of them say the same, and are the same object.
        different = {id(facts): facts for facts in headers}.values()
        return merge(
            _UNREADABLE if facts is None else decide(facts, self._rules) for facts in different
        )

    def _read(self, instance: SeriesInstance) -> Facts | None:
        try:
            return self._facts.read(self._files.absolute(instance.path))
        except Part10Error:
            # Kept as received, but pydicom cannot read it: trying again would change nothing.
            return None
