"""What another worker left behind is done by those that live.

That it has ended is known for certain where it ran on the same host: the kernel freed the lock of
its name. Elsewhere, and of a process that is frozen, nothing is known but its silence. Then who
looks must have heard nothing for all that time itself: after a database that was away, or with a
clock that is wrong, nobody is silent.

Whoever takes over deletes the entry of the other worker and queues its jobs in one transaction: it
happens once, and one that was frozen and goes on finds itself given up at its next beat, and ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa
import structlog

from db.worker_events import WorkerEventRecord, WorkerStep, add
from db.workers import WorkerIdentity, WorkerSeen, give_up, workers

from .jobs import JobQueue

_log = structlog.get_logger()
# Of looks at who is silent. Who looks so much later heard nothing of anybody meanwhile.
_LONGEST_PAUSE_SECONDS = 30.0

# Tells whether the process of a worker of this host has ended, by its id and pid.
IsGone = Callable[[str, int], bool]


class Takeover:
    """Takes over for the other workers of a database.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    queue : JobQueue
    identity : WorkerIdentity
        Of this worker.
    silence_seconds : float
        A worker silent for so long is given up.
    is_gone : callable
        As `worker_id.is_gone`; asked about workers of this host.
    told : callable
        Is told of each event, for metrics.
    clock : callable
        Monotonic seconds.

    Attributes
    ----------
    has_others : bool
        Whether there was another worker at the last look.
    """

    def __init__(
        self,
        engine: sa.Engine,
        queue: JobQueue,
        identity: WorkerIdentity,
        silence_seconds: float,
        is_gone: IsGone = lambda _worker, _pid: False,
        told: Callable[[str], None] = lambda _step: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._queue = queue
        self._identity = identity
        self._silence = silence_seconds
        self._is_gone = is_gone
        self._told = told
        self._clock = clock
        # What was last heard of each, and when it was heard here.
        self._heard: dict[str, tuple[datetime, float]] = {}
        self._looked = float("-inf")
        # Whether another worker was on the list when it was looked last.
        self.has_others = False
        # Who ran jobs without an entry when it was looked last.
        self._unlisted: frozenset[str] = frozenset()

    def of_the_gone(self) -> None:
        """Take over for workers of this host whose processes are gone; cheap if there are none.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError
            If the database is away.
        """
        for other in self._others():
            if other.host == self._identity.host and self._is_gone(other.id, other.pid):
                self._take(other, f"its process {other.pid} is gone")

    def of_the_silent(self) -> None:
        """Take over for workers of which nothing was heard for too long.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError
            If the database is away.
        """
        try:
            others = self._others()
        except sa.exc.SQLAlchemyError:
            # Away for however short: nobody could be heard meanwhile.
            self._looked = float("-inf")
            raise
        now = self._clock()
        # Whoever froze this process, a container's or a machine's pause, may have frozen all.
        if now - self._looked > min(_LONGEST_PAUSE_SECONDS, self._silence):
            self._heard.clear()
        self._looked = now
        before, self._heard = self._heard, {}
        for other in others:
            seen_at, since = before.get(other.id, (other.seen_at, now))
            if seen_at != other.seen_at:
                since = now
            if now - since >= self._silence:
                self._take(other, f"nothing was heard of it for {now - since:.0f} s")
            else:
                self._heard[other.id] = (other.seen_at, since)

    def of_the_unlisted(self) -> None:
        """Take over for whoever runs jobs and has no entry; nobody else would ever do it.

        One that was frozen and goes on may take jobs before it finds itself given up and ends, and
        it may never come back. Who begins has its entry before it runs anything; nevertheless who
        is found so must have been so at the last look too.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError
            If the database is away.
        """
        with self._engine.connect() as connection:
            running = self._queue.executors(connection)
            listed = {one.id for one in workers(connection)}
        before, self._unlisted = self._unlisted, running - listed - {self._identity.id}
        for worker in sorted(before & self._unlisted):
            reason = "it has no entry any more"
            with self._engine.begin() as connection:
                if worker in {one.id for one in workers(connection)}:
                    continue
                analyses = self._queue_of(connection, worker, reason)
            self._say(worker, reason, analyses)

    def of_the_predecessor(self, connection: sa.Connection) -> Callable[[], None]:
        """Queue what an earlier process of this worker left, within the caller's transaction.

        Before this one takes jobs: what it runs bears the same name.

        Returns
        -------
        callable
            Says so; for when the transaction has ended well.
        """
        worker, reason = self._identity.id, "an earlier process of it has ended"
        analyses = self._queue_of(connection, worker, reason)
        return partial(self._say, worker, reason, analyses)

    def _others(self) -> list[WorkerSeen]:
        with self._engine.connect() as connection:
            others = [one for one in workers(connection) if one.id != self._identity.id]
        self.has_others = bool(others)
        return others

    def _take(self, other: WorkerSeen, reason: str) -> None:
        with self._engine.begin() as connection:
            if not give_up(connection, other):  # it has spoken, or somebody was faster
                return
            analyses = self._queue_of(connection, other.id, reason)
        # Not before it is so: a database that goes away takes it back.
        self._say(other.id, reason, analyses)

    def _queue_of(self, connection: sa.Connection, worker: str, reason: str) -> tuple[str, ...]:
        analyses = self._queue.take_over(connection, worker)
        said = f"{reason}; {self._identity.id} queued what it was at"
        step, now = WorkerStep.TAKEN_OVER, datetime.now(UTC)
        if analyses:
            add(
                connection,
                [
                    WorkerEventRecord(now, worker, step, said, analysis_id=analysis)
                    for analysis in analyses
                ],
            )
        return analyses

    def _say(self, worker: str, reason: str, analyses: tuple[str, ...]) -> None:
        if not analyses:
            return
        for _ in analyses:
            self._told(WorkerStep.TAKEN_OVER)
        _log.warning(
            "worker.taken_over", worker=worker, by=self._identity.id, reason=reason,
            analyses=[one[:12] for one in analyses],
        )  # fmt: skip
