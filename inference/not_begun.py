"""Jobs that a worker has taken and knows nothing of.

A worker whose connection is cut while it takes a job does not hear that the job is its own; one
that finds no thread for it lets it lie. Nobody else takes over for a worker that lives.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import sqlalchemy as sa

from .job_table import JobTable, Taken


class NotBegun:
    """Finds such jobs, and queues them again.

    Parameters
    ----------
    table : JobTable
    executor : str
        Name of this worker.
    queue : ColumnElement
        The queue of each, from `JobTable.known_queue`.
    known : callable
        Gives the ids of the jobs that this process runs, or is about to.
    """

    def __init__(
        self,
        table: JobTable,
        executor: str,
        queue: sa.ColumnElement[str],
        known: Callable[[], Collection[str]],
    ) -> None:
        self._table = table
        self._executor = executor
        self._queue = queue
        self._known = known
        self._unknown: frozenset[Taken] = frozenset()

    def queue_again(self, engine: sa.Engine) -> tuple[str, ...]:
        """Queue what was unknown at the last look too; return the ids of the jobs.

        What is being taken, or ends, is unknown for a moment. Two looks must be some seconds apart.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError
            If the database is away.
        """
        with engine.connect() as connection:
            taken = self._table.taken_by(connection, self._executor)
        known = self._known()
        before = self._unknown
        self._unknown = frozenset(one for one in taken if one[0] not in known)
        lost = before & self._unknown
        if not lost:
            return ()
        with engine.begin() as connection:
            return self._table.queue_again(connection, self._executor, self._queue, lost)
