"""What workers do for one another: the jobs of silent ones go on, those given up get an outcome."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from db.results import still_pending
from db.worker_events import prune

from .jobs import JobQueue
from .takeover import Takeover

# As many as a statement takes parameters, and far fewer.
_ASKED_AT_ONCE = 1000
# Work is kept for weeks, facts for years.
_JOBS_KEPT = timedelta(days=28)


class Sweep:
    """Looks after the jobs of all workers of a database.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    queue : JobQueue
    takeover : Takeover
    fail : callable
        Records that an analysis could not be brought to an end: its id, a code and the reason.
    """

    def __init__(
        self,
        engine: sa.Engine,
        queue: JobQueue,
        takeover: Takeover,
        fail: Callable[[str, str, str], None],
    ) -> None:
        self._engine = engine
        self._queue = queue
        self._takeover = takeover
        self._fail = fail

    def run(self) -> None:
        """Do it once.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError
            If the database is away.
        """
        self._takeover.of_the_silent()
        self._takeover.of_the_unlisted()
        self._give_up_dead_jobs()
        self._queue.forget(datetime.now(UTC) - _JOBS_KEPT)
        with self._engine.begin() as connection:
            prune(connection)

    def _give_up_dead_jobs(self) -> None:
        """Give pending analyses whose job the engine has given up their coded failure."""
        dead = {job.analysis_id: job for job in self._queue.dead()}
        ids = tuple(dead)
        with self._engine.connect() as connection:
            pending = [
                analysis_id
                for start in range(0, len(ids), _ASKED_AT_ONCE)
                for analysis_id in still_pending(connection, ids[start : start + _ASKED_AT_ONCE])
            ]
        for analysis_id in pending:
            if not self._queue.live(analysis_id):
                self._fail(
                    analysis_id,
                    "worker_lost",
                    f"given up after {dead[analysis_id].attempts} starts without an outcome",
                )
