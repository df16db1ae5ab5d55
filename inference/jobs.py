"""Durable work: analyses that wait, and what became of them.

Only this, `job_runner` and what they share (`job_engine`) import the job engine (DBOS Transact).

A job is an analysis id; everything else stands in our own tables. Jobs are enqueued in the
transaction that stores the analysis, run by whichever worker is free, run again after a crash,
and given up after a bounded number of attempts.

There are two queues. A worker has slots of its own for STAT, beside those for routine work, so that
a STAT analysis never waits for a routine one to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, EnqueueOptions

from .job_engine import (
    APPLICATION,
    JOB_FORMAT,
    QUEUE,
    QUEUES,
    SECONDS,
    STAT_POLL_SECONDS,
    STAT_QUEUE,
    WORKFLOW,
    quiet,
    serializer,
)  # fmt: skip
from .job_states import Job, JobState, Priority
from .job_table import JobTable

_RANK = {Priority.STAT: 1, Priority.ROUTINE: 10}

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
    quiet()
    DBOS.migrate(engine.url.render_as_string(hide_password=False))
    client = _client(engine)
    try:
        # Workers of an older version find it there, and take STAT from it until they are replaced.
        client.register_queue(
            STAT_QUEUE,
            worker_concurrency=1,
            polling_interval_sec=STAT_POLL_SECONDS,
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
        quiet()
        self._client = _client(engine)
        self._table = JobTable(self._client._sys_db, WORKFLOW)

    def enqueue(self, connection: sa.Connection, analysis_id: str, priority: Priority) -> None:
        """Enqueue within the caller's transaction; enqueuing twice is the same as once."""
        self._enqueue(connection, analysis_id, analysis_id, priority)

    def enqueue_again(
        self,
        connection: sa.Connection,
        analysis_id: str,
        priority: Priority,
        earlier: Sequence[Job] | None = None,
    ) -> None:
        """Enqueue an analysis whose earlier jobs have all ended.

        Parameters
        ----------
        earlier : sequence of Job, optional
            Its `jobs`, from a caller who knows them. To ask for them here takes a second
            connection: where many do so at once, they would wait for each other's.
        """
        if earlier is None:
            earlier = self.jobs([analysis_id])
        # Some may have been forgotten: count on from the highest number, not from how many.
        numbers = [int(job.id.partition(".")[2] or 0) for job in earlier]
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
        return self._table.move(connection, analysis_id, QUEUE, STAT_QUEUE, rank)

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
        known = self._table.known_queue(SECONDS, QUEUE)
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
        for queue in QUEUES.values():
            # Where no slot is free they wait, as others do.
            ids = [one.workflow_id for one in found if _queue_of(one.queue_name) == queue]
            if ids:
                self._client.resume_workflows(ids, queue_name=queue)
        return len(found)

    def _found(self, **criteria: Any) -> Sequence[Any]:
        return self._client.list_workflows(
            name=WORKFLOW, load_input=False, load_output=False, **criteria
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
            "workflow_name": WORKFLOW,
            "queue_name": QUEUES[priority],
            "workflow_id": job_id,
            "app_version": JOB_FORMAT,
            "priority": _RANK[priority],
        }
        self._client.enqueue_in_transaction(connection, options, analysis_id)


def _queue_of(known: str | None) -> str:
    """Return the queue of a job; one that an older version put back lies in the engine's own."""
    return known if known in SECONDS else QUEUE


def _client(engine: sa.Engine) -> DBOSClient:
    return DBOSClient(
        system_database_engine=engine,
        serializer=serializer(),
        application_name=APPLICATION,
        lazy=True,
        retry_connection_errors=False,
    )
