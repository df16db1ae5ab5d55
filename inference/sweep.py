"""What workers do for one another: the jobs of silent ones go on, those given up get an outcome."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
import structlog

from db.results import still_pending
from db.worker_events import prune
from db.workers import sweep_silent

from .jobs import JobQueue

_log = structlog.get_logger()
# Work is kept for weeks, facts for years.
_JOBS_KEPT = timedelta(days=28)


class Sweep:
    """Looks after the jobs of all workers of a database.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    queue : JobQueue
    silence_seconds : float
        Jobs of a worker silent for so long go to another one.
    fail : callable
        Records that an analysis could not be brought to an end: its id, a code and the reason.
    """

    def __init__(
        self,
        engine: sa.Engine,
        queue: JobQueue,
        silence_seconds: float,
        fail: Callable[[str, str, str], None],
    ) -> None:
        self._engine = engine
        self._queue = queue
        self._silence = timedelta(seconds=silence_seconds)
        self._fail = fail

    def run(self) -> None:
        """Do it once.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError
            If the database is away.
        """
        with self._engine.begin() as connection:
            silent = sweep_silent(connection, self._silence)
        requeued = self._queue.requeue_of_executors(silent)
        if requeued:
            _log.warning("worker.swept", silent=list(silent), jobs=requeued)
        self._give_up_dead_jobs()
        self._queue.forget(datetime.now(UTC) - _JOBS_KEPT)
        with self._engine.begin() as connection:
            prune(connection)

    def _give_up_dead_jobs(self) -> None:
        """Give pending analyses whose job the engine has given up their coded failure."""
        dead = {job.analysis_id: job for job in self._queue.dead()}
        with self._engine.connect() as connection:
            pending = still_pending(connection, tuple(dead))
        for analysis_id in pending:
            if not self._queue.live(analysis_id):
                self._fail(
                    analysis_id,
                    "worker_lost",
                    f"given up after {dead[analysis_id].attempts} starts without an outcome",
                )
