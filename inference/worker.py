"""The worker process: models stay loaded, jobs come from the queue, a silent worker is swept.

It ends when it is told to, and by itself where only a new process helps: an analysis is stuck, the
GPU is lost, memory has grown. Then it takes no new jobs, lets those under way end, and its exit
status says why (`endings`).
"""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
import structlog

from db.errors import DatabaseError
from db.results import priority_of, still_pending
from db.worker_events import WorkerStep, prune
from db.workers import WorkerIdentity, beat, enter, leave, set_trouble, sweep_silent

from .analyst import Analyst
from .device_fault import device_fault
from .drain import drain
from .endings import Ending
from .engines.errors import DeviceLostError
from .errors import InferenceError
from .event_book import EventBook
from .heap import keep_freed_memory
from .jobs import JobQueue, JobRunner, Priority
from .memory import MemoryMark, resident_bytes
from .scheduling import DeviceQueue, Turn
from .stuck import StuckExit, was_stuck
from .watchdog import Watchdog

_log = structlog.get_logger()

_BEAT_SECONDS = 5.0
# How soon it is seen that the process has to end.
_LOOK_SECONDS = 0.2
_SWEEP_SECONDS = 10.0
# Half a second's work, between two beats.
_INDEXED_AT_ONCE = 500
# Work is kept for weeks, facts for years.
_JOBS_KEPT = timedelta(days=28)
_ATTEMPTS = 3
_RETRY_SECONDS = 1.0
# Of the time that an analysis may take: a batch that takes so much of it may be the one stuck.
_SUSPECT_SHARE = 0.1
# Processes that lose their GPU with one analysis; by then `device_seen` has left the GPU alone.
_MOST_PASSED_ON = 5


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker behaves.

    Attributes
    ----------
    concurrency : int
        Routine analyses at once.
    stat_slots : int
        STAT analyses at once, beside those.
    timeout_seconds : float
        An analysis that takes longer ends the process; the job is tried again, a few times.
    memory : MemoryMark
        Above it the process ends between analyses.
    silence_seconds : float
        Jobs of a worker silent for so long go to another one.
    grace_seconds : int
        How long running analyses may go on after a request to stop.
    """

    concurrency: int = 1
    stat_slots: int = 1
    timeout_seconds: float = 600.0
    silence_seconds: float = 120.0
    grace_seconds: int = 20
    memory: MemoryMark = field(default_factory=lambda: MemoryMark(0))


class Worker:
    """Runs jobs until told to stop.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    analyst : Analyst
    identity : WorkerIdentity
    settings : WorkerSettings
    events : EventBook, optional
        The one that the engines of its models tell.
    device : DeviceQueue, optional
        By which analyses share the device.
    """

    def __init__(
        self,
        engine: sa.Engine,
        analyst: Analyst,
        identity: WorkerIdentity,
        settings: WorkerSettings,
        events: EventBook | None = None,
        device: DeviceQueue | None = None,
    ) -> None:
        self._engine = engine
        self._analyst = analyst
        self._identity = identity
        self._settings = settings
        self._watchdog = Watchdog(self._look_at_memory)
        self._events = events or EventBook(engine, identity.id, identity.device)
        self._device = device or DeviceQueue()
        self._events.under_way = self._under_way
        self._grown: int | None = None
        self._next_beat = self._next_sweep = 0.0
        self._queue = JobQueue(engine)
        self._runner = JobRunner(
            engine, identity.id, self._run, settings.concurrency, settings.stat_slots
        )

    def wake(self) -> None:
        """Look for jobs now instead of at the next poll; any thread."""
        self._runner.wake()

    def serve(self, stop: threading.Event) -> Ending:
        """Work until `stop` is set, or a new process is needed; let running analyses end.

        Returns
        -------
        Ending
            Why it ended.
        """
        with self._engine.begin() as connection:
            enter(connection, self._identity)
        keep_freed_memory()
        self._say_where_it_runs()
        self._raise_memory_mark()
        self._watch()
        self._runner.start()
        _log.info(
            "worker.started",
            worker=self._identity.id,
            device=self._identity.device,
            models=list(self._identity.models),
        )
        ending = self._ending()
        while ending is None and not stop.wait(_LOOK_SECONDS):
            self._look_after()
            ending = self._ending()
        self._drain(stop, ending)
        self._queue.close()
        self._leave()
        ending = ending or Ending.STOPPED
        _log.info("worker.stopped", worker=self._identity.id, why=ending.name.lower())
        return ending

    def _look_after(self) -> None:
        """Do what is due: say that this worker lives, write events, sweep silent ones."""
        now = time.monotonic()
        if now < self._next_beat:
            return
        try:
            self._beat_now_and_then()
            self._analyst.facts.index_new(_INDEXED_AT_ONCE)
            if now >= self._next_sweep:
                self._sweep()
                self._next_sweep = now + _SWEEP_SECONDS
        except sa.exc.SQLAlchemyError as error:
            _log.warning("worker.database_away", error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - what runs must not end for it
            # Such as no thread or file more: to leave here is to close what others compute with.
            _log.error("worker.not_looked_after", error=type(error).__name__, where=_where(error))

    def _ending(self) -> Ending | None:
        """Return why this process has to end by itself, if it has to."""
        if self._events.lost is not None:
            return Ending.DEVICE_LOST
        return Ending.RECYCLED if self._grown is not None else None

    def _drain(self, stop: threading.Event, ending: Ending | None) -> None:
        """Take no more jobs; one that ends by itself gives those under way all their time."""
        if ending is not None:
            self._say_why(ending)
        self._device.hold_nobody()
        drain(
            self._runner.stop,
            stop,
            grace_seconds=self._settings.grace_seconds,
            patient_seconds=int(self._settings.timeout_seconds) + 1,
            look_after=self._beat_now_and_then,
        )

    def _beat_now_and_then(self) -> None:
        if time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + _BEAT_SECONDS
        try:
            self._beat()
            self._events.flush()
        except sa.exc.SQLAlchemyError as error:
            _log.warning("worker.database_away", error=type(error).__name__)

    def _watch(self) -> None:
        exit_stuck = StuckExit(
            self._engine,
            self._events,
            self._settings.timeout_seconds,
            running=lambda: self._watchdog.running,
            fail=self._analyst.fail,
            put_back=self._queue.put_back,
            suspects=self._suspects,
        )
        self._watchdog.start(self._settings.timeout_seconds, exit_stuck)

    def _suspects(self, late: str) -> tuple[str, ...]:
        """Return the analyses that hold one up; a batch that has just begun is none's fault."""
        return self._device.held_up_by(late, _SUSPECT_SHARE * self._settings.timeout_seconds)

    def _leave(self) -> None:
        with self._engine.begin() as connection:
            leave(connection, self._identity.id)
        self._events.flush()

    def _say_where_it_runs(self) -> None:
        """Say loudly that it runs on the CPU instead of a GPU."""
        identity = self._identity
        if identity.trouble is None:
            return
        self._events.note(WorkerStep.ON_CPU, identity.trouble)
        _log.critical(
            "worker.on_cpu_instead", worker=identity.id, wanted=identity.wanted_device,
            reason=identity.trouble,
        )  # fmt: skip

    def _say_why(self, ending: Ending) -> None:
        running = len(self._watchdog.running)
        if ending is Ending.RECYCLED:
            reason = (
                f"{(self._grown or 0) >> 20} MiB in use, more than the mark of "
                f"{self._settings.memory.n_bytes >> 20} MiB; a new process takes over"
            )
            self._events.note(WorkerStep.RECYCLED, reason)
            _log.warning("worker.recycled", worker=self._identity.id, running=running,
                         reason=reason)  # fmt: skip
            return
        trouble = f"{self._events.lost}; a new process takes over"
        _log.critical("worker.device_lost", worker=self._identity.id, running=running,
                      reason=trouble)  # fmt: skip
        try:
            with self._engine.begin() as connection:
                set_trouble(connection, self._identity.id, trouble)
            self._events.flush()
        except sa.exc.SQLAlchemyError as error:
            _log.warning("worker.database_away", error=type(error).__name__)

    def _raise_memory_mark(self) -> None:
        at_start = resident_bytes()
        asked = self._settings.memory.n_bytes
        if self._settings.memory.raised_for(at_start):
            reason = (
                f"the worker and its models take {at_start >> 20} MiB, too near to the mark of "
                f"{asked >> 20} MiB: it is {self._settings.memory.n_bytes >> 20} MiB for this "
                "process; set inference.memory_mb higher, or load fewer models"
            )
            self._events.note(WorkerStep.MEMORY_MARK, reason)
            _log.error("worker.memory_mark_too_low", worker=self._identity.id, reason=reason)

    def _look_at_memory(self) -> None:
        if self._grown is None:
            self._grown = self._settings.memory.passed()

    def _run(self, analysis_id: str) -> None:
        """Do one job: a few attempts, then a coded failure.

        What kills the process is counted by the engine, which gives the job up after a bounded
        number of starts.
        """
        with self._watchdog.watching(analysis_id):
            attempt = 1
            while (error := self._attempt(analysis_id)) is not None:
                _log.warning(
                    "analysis.attempt_failed",
                    analysis=analysis_id[:12],
                    attempt=attempt,
                    error=type(error).__name__,
                    where=_where(error),
                )
                fault = device_fault(error)
                if isinstance(fault, DeviceLostError):
                    self._leave_to_the_next(analysis_id, fault)
                    return
                if attempt >= _ATTEMPTS:
                    code = fault.code if fault is not None else "error"
                    self._analyst.fail(analysis_id, code, _explain(fault or error))
                    return
                time.sleep(_RETRY_SECONDS * attempt)
                # A database that is away is no fault of the study: until the watchdog bites, wait.
                attempt += not isinstance(error, sa.exc.OperationalError)

    def _leave_to_the_next(self, analysis_id: str, fault: DeviceLostError) -> None:
        """Queue an analysis once more: what it needs lies on a device that is lost."""
        self._events.lose("torch", fault)
        if len(self._queue.jobs([analysis_id])) > _MOST_PASSED_ON:
            self._analyst.fail(analysis_id, fault.code, str(fault))
            return
        with self._engine.begin() as connection:
            priority = Priority(priority_of(connection, analysis_id) or Priority.ROUTINE)
            self._queue.enqueue_again(connection, analysis_id, priority)

    def _attempt(self, analysis_id: str) -> Exception | None:
        try:
            with self._engine.connect() as connection:
                is_stat = priority_of(connection, analysis_id) == Priority.STAT
            excuse = functools.partial(self._watchdog.excuse, analysis_id)
            alone = was_stuck(self._engine, analysis_id)
            with self._device.turn(analysis_id, is_stat, excuse, alone=alone) as turn:
                turn.pause()
                self._analyst.analyse(analysis_id)
            _log_turn(turn)
        except Exception as error:  # noqa: BLE001 - the boundary of the job; logged by the caller
            return error
        except BaseException as error:  # noqa: BLE001 - libraries raise such
            # The job engine takes down exceptions alone: the job would never end.
            return InferenceError(_explain(error))
        return None

    def _under_way(self) -> str | None:
        """Return the analysis that this thread works for, if it is known."""
        computing = self._device.computing
        return self._watchdog.current or (computing[0] if len(computing) == 1 else None)

    def _beat(self) -> None:
        with self._engine.begin() as connection:
            beat(connection, self._identity.id)

    def _sweep(self) -> None:
        silence = timedelta(seconds=self._settings.silence_seconds)
        with self._engine.begin() as connection:
            silent = sweep_silent(connection, silence)
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
                self._analyst.fail(
                    analysis_id,
                    "worker_lost",
                    f"given up after {dead[analysis_id].attempts} starts without an outcome",
                )


def _log_turn(turn: Turn) -> None:
    """Write down what an analysis had of the device, if it asked for anything."""
    if turn.first_seconds is not None:
        _log.info(
            "analysis.computed",
            analysis=turn.analysis_id[:12],
            stat=turn.is_stat,
            rows=turn.rows,
            batches=turn.batches,
            first_batch_seconds=round(turn.first_seconds, 3),
            waited_seconds=round(turn.waited_seconds, 3),
        )


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def _explain(error: BaseException) -> str:
    """Name the error without its message where that may quote patient data."""
    if isinstance(error, (InferenceError, DatabaseError)):
        return str(error)
    return f"{type(error).__name__} at {_where(error)}"
