"""One job in a worker: a few attempts at its analysis, then a coded failure."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import sqlalchemy as sa
import structlog

from db.faults import is_away
from db.results import Heading, heading_of

from .analyst import Analyst
from .device_fault import device_fault
from .engines.errors import DeviceLostError
from .error_words import explained, where
from .errors import InferenceError
from .event_book import EventBook
from .job_states import JobState, Priority
from .jobs import JobQueue
from .scheduling import DeviceQueue, Turn
from .stuck import was_stuck
from .watchdog import Watchdog

_log = structlog.get_logger()

_ATTEMPTS = 3
_RETRY_SECONDS = 1.0
# Processes that lose their GPU with one analysis; by then `device_seen` has left the GPU alone.
_MOST_PASSED_ON = 5


class Attempts:
    """Runs the jobs that a worker takes.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    analyst : Analyst
        Brings one analysis to its outcome.
    queue : JobQueue
        Takes what only another process can carry out.
    device : DeviceQueue
        By which analyses share the device.
    watchdog : Watchdog
        Knows what is under way.
    events : EventBook
        Is told of a device that is lost.
    wait_for_looks : callable
        Returns once nothing is taken any more that the worker would not take by now.
    """

    def __init__(
        self,
        engine: sa.Engine,
        analyst: Analyst,
        queue: JobQueue,
        device: DeviceQueue,
        watchdog: Watchdog,
        events: EventBook,
        wait_for_looks: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._analyst = analyst
        self._queue = queue
        self._device = device
        self._watchdog = watchdog
        self._events = events
        self._wait_for_looks = wait_for_looks

    def run(self, analysis_id: str) -> None:
        """Do one job: a few attempts, then a coded failure.

        What kills the process is counted by the engine, which gives the job up after a bounded
        number of starts.
        """
        with self._watchdog.watching(analysis_id):
            if (error := self._tried(analysis_id)) is not None:
                self._once_there(functools.partial(self._end, analysis_id, error))

    def _tried(self, analysis_id: str) -> Exception | None:
        """Bring an analysis to its outcome; return why that is given up."""
        attempt = 1
        while (error := self._attempt(analysis_id)) is not None:
            _log.warning(
                "analysis.attempt_failed",
                analysis=analysis_id[:12],
                attempt=attempt,
                error=type(error).__name__,
                where=where(error),
            )
            is_last = attempt >= _ATTEMPTS or isinstance(device_fault(error), DeviceLostError)
            # A database that is away is no fault of the study: until the watchdog bites, wait.
            if is_last and not is_away(error):
                return error
            time.sleep(_RETRY_SECONDS * attempt)
            attempt += not is_away(error)
        return None

    def _once_there(self, store: Callable[[], None]) -> None:
        """Store the end of an analysis, as soon as the database is there.

        What goes from here to the job engine is lost: the job would be dead, and the analysis would
        fail as if its worker had been killed.
        """
        while True:
            try:
                store()
                return
            except sa.exc.SQLAlchemyError as error:
                if not is_away(error):
                    raise
                _log.warning("analysis.end_not_stored", error=type(error).__name__)
            time.sleep(_RETRY_SECONDS)

    def _end(self, analysis_id: str, error: Exception) -> None:
        """End an analysis that is given up, as may be done more than once."""
        fault = device_fault(error)
        if isinstance(fault, DeviceLostError):
            self._leave_to_the_next(analysis_id, fault)
            return
        code = fault.code if fault is not None else "error"
        self._analyst.fail(analysis_id, code, explained(fault or error))

    def _leave_to_the_next(self, analysis_id: str, fault: DeviceLostError) -> None:
        """Queue an analysis once more: what it needs lies on a device that is lost."""
        self._events.lose("torch", fault)
        # A look that began before would take it here again.
        self._wait_for_looks()
        jobs = self._queue.jobs([analysis_id])
        if any(job.state is JobState.QUEUED for job in jobs):
            return  # stored before, though the database went away before it could say so
        if len(jobs) > _MOST_PASSED_ON:
            self._analyst.fail(analysis_id, fault.code, str(fault))
            return
        with self._engine.begin() as connection:
            about = heading_of(connection, analysis_id)
            priority = Priority.ROUTINE if about is None else Priority(about.priority)
            self._queue.enqueue_again(connection, analysis_id, priority, jobs)

    def _attempt(self, analysis_id: str) -> Exception | None:
        try:
            with self._engine.connect() as connection:
                about = heading_of(connection, analysis_id)
            is_stat = about is not None and about.priority == Priority.STAT
            excuse = functools.partial(self._watchdog.excuse, analysis_id)
            alone = was_stuck(self._engine, analysis_id)
            with self._device.turn(analysis_id, is_stat, excuse, alone=alone) as turn:
                turn.pause()
                self._analyst.analyse(analysis_id)
            _log_turn(turn, about)
        except Exception as error:  # noqa: BLE001 - the boundary of the job; logged by the caller
            return error
        except BaseException as error:  # noqa: BLE001 - libraries raise such
            # The job engine takes down exceptions alone: the job would never end.
            return InferenceError(explained(error))
        return None


def _log_turn(turn: Turn, about: Heading | None) -> None:
    """Write down what an analysis had of the device, if it asked for anything."""
    if turn.first_seconds is not None and about is not None:
        _log.info(
            "analysis.computed",
            trace=about.trace_id,
            analysis=turn.analysis_id[:12],
            model=about.model_name,
            stat=turn.is_stat,
            rows=turn.rows,
            batches=turn.batches,
            first_batch_seconds=round(turn.first_seconds, 3),
            waited_seconds=round(turn.waited_seconds, 3),
        )
