"""Jobs that run in this process, taken from the queues of `jobs`.

A worker has slots of its own for STAT, beside those for routine work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig

from db.wakeable import WakeableEvents

from .claims import Claims
from .job_engine import (
    APPLICATION,
    JOB_FORMAT,
    QUEUE,
    SECONDS,
    STAT_QUEUE,
    WORKFLOW,
    quiet,
    serializer,
)  # fmt: skip
from .job_looks import count_claims, keep_to_slots, leave
from .job_table import JobTable
from .not_begun import NotBegun
from .under_way import UnderWay

# A job that was begun this often without an end takes its worker down each time.
_MAX_ATTEMPTS = 4
# With nothing to do a worker has no batch in flight that STAT could wait for. A look costs 4 ms of
# the processor when all caches are cold: 15 of them in a second took 6 % of a core.
_IDLE_PATIENCE = 4.0


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
    leaves_routine, leaves_stat : callable
        Asked at each look for routine analyses, and for STAT; while it is true none is taken.
    """

    def __init__(
        self,
        engine: sa.Engine,
        executor_id: str,
        run: Callable[[str], None],
        concurrency: int = 1,
        stat_slots: int = 1,
        leaves_routine: Callable[[], bool] = lambda: False,
        leaves_stat: Callable[[], bool] = lambda: False,
    ) -> None:
        quiet()
        config: DBOSConfig = {
            "name": APPLICATION,
            "application_version": JOB_FORMAT,
            "executor_id": executor_id,
            "system_database_engine": engine,
            "serializer": serializer(),
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
        quiet()
        DBOS.workflow(name=WORKFLOW, max_recovery_attempts=_MAX_ATTEMPTS)(
            _named(self._claims.begun, self._under_way.counting(run))
        )
        self._slots = {STAT_QUEUE: stat_slots, QUEUE: concurrency}
        self._leaves = {STAT_QUEUE: leaves_stat, QUEUE: leaves_routine}
        self._looking = {queue: threading.Lock() for queue in self._slots}
        self._engine, self._executor_id = engine, executor_id
        self._not_begun: NotBegun | None = None

    def start(self) -> None:
        """Take up unfinished jobs of this worker, then take jobs from the queue."""
        # Nothing is taken before it is known how much at once.
        DBOS.listen_queues([])
        DBOS.launch()
        quiet()
        system = self._dbos._sys_db
        keep_to_slots(system, self._slots)
        active = self._dbos._active_workflows_set
        count_claims(system, active, self._claims)
        table = JobTable(system, WORKFLOW)
        self._not_begun = NotBegun(
            table,
            self._executor_id,
            table.known_queue(SECONDS, QUEUE),
            lambda: self._claims.ids | frozenset(active.activeList()),
        )
        for queue, leaves in self._leaves.items():
            leave(system, queue, leaves, self._looking[queue])
        for queue, slots in self._slots.items():
            DBOS.register_queue(
                queue,
                worker_concurrency=slots,
                polling_interval_sec=SECONDS[queue],
                on_conflict="always_update",
            )
        self._dbos._listening_queues = None
        self.wake()

    def wake(self) -> None:
        """Look at the queue now; any thread, also before `start`."""
        self._pauses.wake()

    def wait_for_looks(self) -> None:
        """Return once no job is taken by an answer of `leaves_…` from before; any thread.

        A job that is queued after it is not taken here while they say so.
        """
        for looking in self._looking.values():
            with looking:
                pass

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

    @property
    def is_at_routine(self) -> bool:
        """Whether routine jobs are under way, or taken and about to begin; not before `start`."""
        return bool(self._dbos._active_workflows_set.count_for_queue(QUEUE))

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
