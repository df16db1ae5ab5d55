"""What the job engine has no way to do in a transaction of ours: statements on its own table.

None of this is part of its interface. Each statement leaves a job as the engine itself would leave
it, and touches nothing that has another state by the time it is reached.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import sqlalchemy as sa

# A job and the one time that it was taken.
Taken: TypeAlias = tuple[str, str]


class JobTable:
    """The jobs of one workflow, as rows.

    Parameters
    ----------
    system : SystemDatabase
        The job engine's.
    workflow : str
        Name of the workflow that jobs are of.
    """

    def __init__(self, system: Any, workflow: str) -> None:
        self._system = system
        self._table: sa.Table = system.tables.workflow_status
        self._is_ours = self._table.c.name == workflow
        self._where = {"schema_translate_map": {self._table.schema: system.schema}}

    def queue_again(
        self,
        connection: sa.Connection,
        executor: str,
        queue: sa.ColumnElement[str],
        only: Collection[Taken] | None = None,
    ) -> tuple[str, ...]:
        """Queue what a worker that has ended was running; return the ids of the jobs.

        The engine does the same for an executor that comes back (`reenqueue_for_recovery`).

        Parameters
        ----------
        queue : ColumnElement
            The queue of each, from `known_queue`.
        only : collection of Taken, optional
            Nothing else, and nothing that was taken once more since.
        """
        job = self._table.c
        meant = [] if only is None else [sa.tuple_(job.workflow_uuid, job.owner_xid).in_(only)]
        queued = (
            sa.update(self._table)
            .where(job.status == "PENDING", job.executor_id == executor, self._is_ours, *meant)
            .values(
                status="ENQUEUED",
                owner_xid=None,
                started_at_epoch_ms=None,
                updated_at=self._system._now_ms_sql(),
                queue_name=queue,
            )
            .returning(job.workflow_uuid)
        )
        found = connection.execute(queued, execution_options=self._where).scalars().all()
        return tuple(str(one) for one in found)

    def taken_by(self, connection: sa.Connection, executor: str) -> frozenset[Taken]:
        """Return what a worker runs, as far as the table knows."""
        job = self._table.c
        taken = sa.select(job.workflow_uuid, job.owner_xid).where(
            job.status == "PENDING", job.executor_id == executor, self._is_ours
        )
        found = connection.execute(taken, execution_options=self._where)
        return frozenset((str(one), str(owner)) for one, owner in found if owner is not None)

    def known_queue(self, known: Mapping[str, Any], else_: str) -> sa.ColumnElement[str]:
        """Return the queue that a job waited in, or another one if nobody looks at that."""
        name = self._table.c.queue_name
        return sa.case((name.in_(list(known)), name), else_=else_)

    def move(
        self, connection: sa.Connection, prefix: str, source: str, queue: str, priority: int
    ) -> bool:
        """Move the jobs of an analysis that still wait in a queue to another one.

        One that a worker has taken is left: PostgreSQL waits for its row and looks at it once more.
        A worker that looks meanwhile passes it over. On SQLite it may have seen the job in the old
        queue and take it after the move: then it runs at once, and only once, as what our table
        says by then.

        Parameters
        ----------
        prefix : str
            What the ids of the jobs are, before a dot and a number.
        source, queue : str
            Where they wait, and where they are to wait.
        priority : int
            Their rank in it.

        Returns
        -------
        bool
            Whether there was one.
        """
        job = self._table.c
        moved = (
            sa.update(self._table)
            .where(job.status == "ENQUEUED", job.queue_name == source, self._named(prefix))
            .values(queue_name=queue, priority=priority, updated_at=self._system._now_ms_sql())
        )
        return connection.execute(moved, execution_options=self._where).rowcount > 0

    def cancel(self, connection: sa.Connection, prefix: str) -> None:
        """Cancel the jobs of an analysis that wait or run, as the engine does it.

        Parameters
        ----------
        prefix : str
            As of `move`.
        """
        job, now = self._table.c, self._system._now_ms_sql()
        cancelled = (
            sa.update(self._table)
            .where(job.status.in_(("ENQUEUED", "DELAYED", "PENDING")), self._named(prefix))
            .values(
                status="CANCELLED",
                owner_xid=None,
                queue_name=None,
                deduplication_id=None,
                started_at_epoch_ms=None,
                updated_at=now,
                completed_at=now,
            )
        )
        connection.execute(cancelled, execution_options=self._where)

    def executors(self, connection: sa.Connection) -> frozenset[str]:
        """Return who runs jobs, whether it lives or not."""
        job = self._table.c
        running = (
            sa.select(job.executor_id)
            .where(job.status == "PENDING", self._is_ours, job.executor_id.is_not(None))
            .distinct()
        )
        found = connection.execute(running, execution_options=self._where).scalars()
        return frozenset(str(one) for one in found)

    def _named(self, prefix: str) -> sa.ColumnElement[bool]:
        job = self._table.c.workflow_uuid
        numbered = job.startswith(f"{prefix}.", autoescape=True)
        return sa.and_(self._is_ours, sa.or_(job == prefix, numbered))
