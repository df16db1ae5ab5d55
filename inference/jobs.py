"""Durable work: with `job_table` the only file that knows the job engine (DBOS Transact).

A job is an analysis id; everything else stands in our own tables. Jobs are enqueued in the
transaction that stores the analysis, run by whichever worker is free, run again after a crash,
and given up after a bounded number of attempts.

There are two queues. A worker has slots of its own for STAT, beside those for routine work, so that
a STAT analysis never waits for a routine one to end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions

from db.wakeable import WakeableEvents

from .claims import Claims
from .job_log import Seldom
from .job_looks import count_claims, keep_to_slots, leave
from .job_states import Job, JobState, Priority
from .job_table import JobTable
from .not_begun import NotBegun
from .under_way import UnderWay

_APPLICATION = "preread"
# Of routine work. Older versions put STAT into it too, with a priority: such jobs still run.
_QUEUE = "analyse"
_STAT_QUEUE = "stat"
_WORKFLOW = "analyse"
# Constant on purpose: a version made from the source would strand queued jobs at every upgrade.
_JOB_FORMAT = "1"
# A job that was begun this often without an end takes its worker down each time.
_MAX_ATTEMPTS = 4
_POLL_SECONDS = 0.2
# STAT is looked for more often: half of that is what it waits on average where no bell is heard,
# from another host. A look without a find reads three short rows and writes nothing, so it takes no
# part in SQLite's write lock.
_STAT_POLL_SECONDS = 0.1
# With nothing to do a worker has no batch in flight that STAT could wait for. A look costs 4 ms of
# the processor when all caches are cold: 15 of them in a second took 6 % of a core.
_IDLE_PATIENCE = 4.0

_SELDOM = Seldom(10.0)

_RANK = {Priority.STAT: 1, Priority.ROUTINE: 10}
_SECONDS = {_STAT_QUEUE: _STAT_POLL_SECONDS, _QUEUE: _POLL_SECONDS}
_QUEUES = {Priority.STAT: _STAT_QUEUE, Priority.ROUTINE: _QUEUE}

_STATES = {
    "ENQUEUED": JobState.QUEUED,
    "DELAYED": JobState.QUEUED,
    "PENDING": JobState.RUNNING,
    "SUCCESS": JobState.ENDED,
    "CANCELLED": JobState.CANCELLED,
    "ERROR": JobState.DEAD,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": JobState.DEAD,
}

_ENDED = (JobState.ENDED, JobState.CANCELLED, JobState.DEAD)


def prepare(engine: sa.Engine) -> None:
    """Create or upgrade the engine's own tables; safe to repeat."""
    _quiet()
    DBOS.migrate(engine.url.render_as_string(hide_password=False))
    client = _client(engine)
    try:
        # Workers of an older version find it there, and take STAT from it until they are replaced.
        client.register_queue(
            _STAT_QUEUE,
            worker_concurrency=1,
            polling_interval_sec=_STAT_POLL_SECONDS,
            on_conflict="never_update",
        )
    finally:
        client.destroy()


class JobQueue:
    """Puts analyses into the queue and answers what became of them.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The engine of the facts: jobs live in the same database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        _quiet()
        self._client = _client(engine)
        self._table = JobTable(self._client._sys_db, _WORKFLOW)

    def enqueue(self, connection: sa.Connection, analysis_id: str, priority: Priority) -> None:
        """Enqueue within the caller's transaction; enqueuing twice is the same as once."""
        self._enqueue(connection, analysis_id, analysis_id, priority)

    def enqueue_again(
        self, connection: sa.Connection, analysis_id: str, priority: Priority
    ) -> None:
        """Enqueue an analysis whose earlier jobs have all ended."""
        # Earlier jobs may have been forgotten: count on from the highest number, not from how many.
        numbers = [int(job.id.partition(".")[2] or 0) for job in self.jobs([analysis_id])]
        number = max(numbers, default=0) + 1
        self._enqueue(connection, f"{analysis_id}.{number}", analysis_id, priority)

    def urge(self, connection: sa.Connection, analysis_id: str) -> bool:
        """Make STAT of an analysis that waits as a routine one, within the caller's transaction.

        It goes before STAT that was asked for later. One that is running is left as it is, and
        urging twice is the same as once.

        Returns
        -------
        bool
            Whether it waited.
        """
        rank = _RANK[Priority.STAT]
        return self._table.move(connection, analysis_id, _QUEUE, _STAT_QUEUE, rank)

    def jobs(self, analysis_ids: Sequence[str]) -> list[Job]:
        """Return every job of these analyses."""
        return self._list(workflow_id_prefix=list(analysis_ids)) if analysis_ids else []

    def dead(self) -> list[Job]:
        """Return the jobs that the engine has given up; all that are kept, or one is forgotten."""
        dead = [status for status, state in _STATES.items() if state is JobState.DEAD]
        return self._list(status=dead)

    def live(self, analysis_id: str) -> list[Job]:
        """Return the jobs of an analysis that are queued or running."""
        live = (JobState.QUEUED, JobState.RUNNING)
        return [job for job in self.jobs([analysis_id]) if job.state in live]

    def cancel(self, connection: sa.Connection, analysis_id: str) -> None:
        """Take an analysis out of the queue, within the caller's transaction.

        One that is running is not interrupted.
        """
        self._table.cancel(connection, analysis_id)

    def forget(self, before: datetime, limit: int = 500) -> int:
        """Delete jobs that ended before that; the facts about their analyses stay."""
        ended = self._list(
            status=[s for s, state in _STATES.items() if state in _ENDED],
            completed_before=before.isoformat(),
            limit=limit,
        )
        if ended:
            self._client.delete_workflows([job.id for job in ended])
        return len(ended)

    def take_over(self, connection: sa.Connection, executor: str) -> tuple[str, ...]:
        """Queue what a worker that has ended was running, within the caller's transaction.

        Each job waits in its queue where it waited before, and how often it was begun stays
        counted: one that kills its worker is given up whoever runs it.

        Returns
        -------
        tuple of str
            The analyses.
        """
        known = self._table.known_queue(_SECONDS, _QUEUE)
        found = self._table.queue_again(connection, executor, known)
        return tuple(sorted({one.partition(".")[0] for one in found}))

    def executors(self, connection: sa.Connection) -> frozenset[str]:
        """Return who runs jobs, whether it lives or not."""
        return self._table.executors(connection)

    def put_back(self, analysis_ids: Sequence[str], executor: str) -> int:
        """Queue jobs that a worker runs as if they had not begun; return how many.

        For analyses that end without a fault of theirs, because another one ends their process.
        """
        if not analysis_ids:
            return 0
        running = self._found(
            status="PENDING", workflow_id_prefix=list(analysis_ids), executor_id=executor
        )
        return self._resume(running)

    def close(self) -> None:
        """Let go of the engine."""
        self._client.destroy()

    def _resume(self, found: Sequence[Any]) -> int:
        for queue in _QUEUES.values():
            # Where no slot is free they wait, as others do.
            ids = [one.workflow_id for one in found if _queue_of(one.queue_name) == queue]
            if ids:
                self._client.resume_workflows(ids, queue_name=queue)
        return len(found)

    def _found(self, **criteria: Any) -> Sequence[Any]:
        return self._client.list_workflows(
            name=_WORKFLOW, load_input=False, load_output=False, **criteria
        )

    def _list(self, **criteria: Any) -> list[Job]:
        return [
            Job(
                id=status.workflow_id,
                analysis_id=status.workflow_id.partition(".")[0],
                state=_STATES.get(status.status, JobState.QUEUED),
                attempts=status.recovery_attempts or 0,
                executor=status.executor_id,
            )
            for status in self._found(**criteria)
        ]

    def _enqueue(
        self, connection: sa.Connection, job_id: str, analysis_id: str, priority: Priority
    ) -> None:
        options: EnqueueOptions = {
            "workflow_name": _WORKFLOW,
            "queue_name": _QUEUES[priority],
            "workflow_id": job_id,
            "app_version": _JOB_FORMAT,
            "priority": _RANK[priority],
        }
        self._client.enqueue_in_transaction(connection, options, analysis_id)


class JobRunner:
    """Runs queued analyses in this process; one per process.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The engine of the facts.
    executor_id : str
        Stable name of this worker. Two live processes must never share one; a restarted worker
        takes up what its predecessor of the same name left.
    run : callable
        Called with an analysis id. Must be repeatable: after a crash it is called again.
    concurrency : int, default 1
        Routine analyses at once, in this worker whatever others of the database do.
    stat_slots : int, default 1
        STAT analyses at once, beside those.
    leaves_routine : callable
        Asked before each look for routine analyses; while it is true none is taken.
    """

    def __init__(
        self,
        engine: sa.Engine,
        executor_id: str,
        run: Callable[[str], None],
        concurrency: int = 1,
        stat_slots: int = 1,
        leaves_routine: Callable[[], bool] = lambda: False,
    ) -> None:
        _quiet()
        config: DBOSConfig = {
            "name": _APPLICATION,
            "application_version": _JOB_FORMAT,
            "executor_id": executor_id,
            "system_database_engine": engine,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
            "enable_otlp": False,
        }
        self._dbos = DBOS(config=config)
        self._claims = Claims()
        self._under_way = UnderWay(self.wake)
        self._pauses = WakeableEvents(self._patience)
        # Not part of its interface: without it the queue is looked at when the pause is over. Put
        # there before any thread pauses, so that the first look does not wait for a pause either.
        self._dbos.background_thread_stop_events = self._pauses
        _quiet()
        DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=_MAX_ATTEMPTS)(
            _named(self._claims.begun, self._under_way.counting(run))
        )
        self._slots = {_STAT_QUEUE: stat_slots, _QUEUE: concurrency}
        self._leaves_routine = leaves_routine
        self._engine, self._executor_id = engine, executor_id
        self._not_begun: NotBegun | None = None

    def start(self) -> None:
        """Take up unfinished jobs of this worker, then take jobs from the queue."""
        # Nothing is taken before it is known how much at once.
        DBOS.listen_queues([])
        DBOS.launch()
        _quiet()
        system = self._dbos._sys_db
        keep_to_slots(system, self._slots)
        active = self._dbos._active_workflows_set
        count_claims(system, active, self._claims)
        table = JobTable(system, _WORKFLOW)
        self._not_begun = NotBegun(
            table,
            self._executor_id,
            table.known_queue(_SECONDS, _QUEUE),
            lambda: self._claims.ids | frozenset(active.activeList()),
        )
        leave(system, _QUEUE, self._leaves_routine)
        for queue, slots in self._slots.items():
            DBOS.register_queue(
                queue,
                worker_concurrency=slots,
                polling_interval_sec=_SECONDS[queue],
                on_conflict="always_update",
            )
        self._dbos._listening_queues = None
        self.wake()

    def wake(self) -> None:
        """Look at the queue now; any thread, also before `start`."""
        self._pauses.wake()

    def queue_not_begun(self) -> tuple[str, ...]:
        """Queue jobs that this worker has taken and never began; see `NotBegun`.

        Not before `start`, and every few seconds from then on.

        Returns
        -------
        tuple of str
            The analyses.
        """
        found = () if self._not_begun is None else self._not_begun.queue_again(self._engine)
        return tuple(sorted({one.partition(".")[0] for one in found}))

    def _patience(self) -> float:
        return 1.0 if self._under_way else _IDLE_PATIENCE

    def stop(self, grace_seconds: int) -> None:
        """Take no more jobs; wait for running ones at most `grace_seconds`."""
        DBOS.destroy(workflow_completion_timeout_sec=grace_seconds)


def _named(
    begun: Callable[[str | None], None], run: Callable[[str], None]
) -> Callable[[str], None]:
    def analyse(analysis_id: str) -> None:
        begun(DBOS.workflow_id)
        run(analysis_id)

    return analyse


def _queue_of(known: str | None) -> str:
    """Return the queue of a job; one that an older version put back lies in the engine's own."""
    return known if known in _SECONDS else _QUEUE


def _client(engine: sa.Engine) -> DBOSClient:
    return DBOSClient(
        system_database_engine=engine,
        serializer=DBOSPortableJSONSerializer(),
        application_name=_APPLICATION,
        lazy=True,
        retry_connection_errors=False,
    )


def _quiet() -> None:
    """Keep the greetings out of the log; warnings go the way of every other line, seldom."""
    logger = logging.getLogger("dbos")
    if _SELDOM not in logger.filters:
        logger.addFilter(_SELDOM)
    logger.setLevel(logging.WARNING)
    logger.handlers.clear()
    logger.propagate = True
