"""The worker process: models stay loaded, jobs come from the queue, others are looked after.

It ends when it is told to, and by itself where only a new process helps: an analysis is stuck, the
GPU is lost, memory has grown. Then it takes no new jobs, lets those under way end, and its exit
status says why (`endings`). While routine analyses end because memory has grown, STAT goes on.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import sqlalchemy as sa
import structlog

from db.worker_events import WorkerStep
from db.workers import WorkerIdentity, beat, enter, leave, set_trouble

from .analyst import Analyst
from .attempts import Attempts
from .drain import drain, let_routine_end
from .endings import Ending
from .error_words import where
from .event_book import EventBook
from .heap import keep_freed_memory
from .heartbeat import BEAT_SECONDS
from .job_runner import JobRunner
from .jobs import JobQueue
from .memory import resident_bytes
from .scheduling import DeviceQueue
from .stuck import StuckExit
from .sweep import Sweep
from .takeover import IsGone, Takeover
from .watchdog import Watchdog
from .worker_settings import WorkerSettings

_log = structlog.get_logger()

# How soon it is seen that the process has to end.
_LOOK_SECONDS = 0.2
_SWEEP_SECONDS = 10.0
# Asks for short rows and tries locks; what it costs is how long jobs of a killed worker wait.
_LOOK_FOR_GONE_SECONDS = 2.0
# Half a second's work, between two beats.
_INDEXED_AT_ONCE = 500
# Of the time that an analysis may take: a batch that takes so much of it may be the one stuck.
_SUSPECT_SHARE = 0.1


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
    is_gone : callable, optional
        Tells whether the process of another worker of this host has ended; see `worker_id`.
    """

    def __init__(
        self,
        engine: sa.Engine,
        analyst: Analyst,
        identity: WorkerIdentity,
        settings: WorkerSettings,
        events: EventBook | None = None,
        device: DeviceQueue | None = None,
        is_gone: IsGone = lambda _worker, _pid: False,
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
        self._next_beat = self._next_sweep = self._next_look = 0.0
        self._queue = JobQueue(engine)
        self._takeover = Takeover(
            engine, self._queue, identity, settings.silence_seconds, is_gone, self._events.counted
        )
        self._sweep = Sweep(engine, self._queue, self._takeover, analyst.fail)
        attempts = Attempts(
            engine,
            analyst,
            self._queue,
            self._device,
            self._watchdog,
            self._events,
            lambda: self._runner.wait_for_looks(),
        )
        self._runner = JobRunner(
            engine,
            identity.id,
            attempts.run,
            settings.concurrency,
            settings.stat_slots,
            self._leaves_routine,
            self._leaves_all,
        )

    def wake(self) -> None:
        """Look for jobs now instead of at the next poll; any thread."""
        self._runner.wake()

    @property
    def is_busy(self) -> bool:
        """Whether analyses are under way; after `serve` those that did not end in their time."""
        return bool(self._watchdog.running)

    def serve(self, stop: threading.Event) -> Ending:
        """Work until `stop` is set, or a new process is needed; let running analyses end.

        Returns
        -------
        Ending
            Why it ended.
        """
        with self._engine.begin() as connection:
            enter(connection, self._identity)
            say_what_was_left = self._takeover.of_the_predecessor(connection)
        say_what_was_left()
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
        with _going_on():
            # What did not end in its time is no poison, and the process ends now.
            self._queue.put_back(self._watchdog.running, self._identity.id)
        self._queue.close()
        # Without a database it stays on the list, and others see that it is gone.
        with _going_on():
            self._leave()
        ending = ending or Ending.STOPPED
        _log.info("worker.stopped", worker=self._identity.id, why=ending.name.lower())
        return ending

    def _look_after(self) -> None:
        """Do what is due: say that this worker lives, write events, see to other workers."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_FOR_GONE_SECONDS
            with _going_on():
                self._takeover.of_the_gone()
        if now < self._next_beat:
            return
        self._beat_now_and_then()
        with _going_on():
            self._analyst.facts.index_new(_INDEXED_AT_ONCE)
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP_SECONDS
            with _going_on():
                self._sweep.run()
            with _going_on():
                self._queue_not_begun()

    def _queue_not_begun(self) -> None:
        if found := self._runner.queue_not_begun():
            _log.warning("worker.not_begun", worker=self._identity.id,
                         analyses=[one[:12] for one in found])  # fmt: skip

    def _ending(self) -> Ending | None:
        """Return why this process has to end by itself, if it has to."""
        if self._events.lost is not None:
            return Ending.DEVICE_LOST
        return Ending.RECYCLED if self._grown is not None else None

    def _drain(self, stop: threading.Event, ending: Ending | None) -> None:
        """Take no more jobs; one that ends by itself gives those under way all their time."""
        if ending is not None:
            self._say_why(ending)
        if ending is Ending.RECYCLED:
            # A lost device is none to take STAT for.
            let_routine_end(
                lambda: self._events.lost is None and self._runner.is_at_routine,
                stop,
                seconds=self._settings.timeout_seconds,
                look_after=self._look_after,
            )
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
        self._next_beat = time.monotonic() + BEAT_SECONDS
        with _going_on():
            self._beat()
            self._events.flush()

    def _watch(self) -> None:
        exit_stuck = StuckExit(
            self._engine,
            self._events,
            self._settings.timeout_seconds,
            running=lambda: self._watchdog.running,
            fail=self._analyst.fail,
            put_back=functools.partial(self._queue.put_back, executor=self._identity.id),
            suspects=self._suspects,
        )
        self._watchdog.start(self._settings.timeout_seconds, exit_stuck)

    def _suspects(self, late: str) -> tuple[str, ...]:
        """Return the analyses that hold one up; a batch that has just begun is none's fault."""
        return self._device.held_up_by(late, _SUSPECT_SHARE * self._settings.timeout_seconds)

    def _leave(self) -> None:
        # While it is on the list others take over what it still runs, once its process is gone.
        if not self.is_busy:
            with self._engine.begin() as connection:
                leave(connection, self._identity)
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

    def _leaves_routine(self) -> bool:
        """Whether routine jobs are left to other workers: here they would pause for STAT first.

        A routine analysis that has its turn beside STAT is taken, so that they have their share
        also where all workers read STAT. Alone, nobody would gain by it. A worker whose memory has
        grown takes none any more.
        """
        if self._grown is not None or self._leaves_all():
            return True
        return self._takeover.has_others and not self._device.may_begin

    def _leaves_all(self) -> bool:
        """Whether nothing is taken: what is left to the next process must not come back here."""
        return self._events.lost is not None

    def _under_way(self) -> str | None:
        """Return the analysis that this thread works for, if it is known."""
        computing = self._device.computing
        return self._watchdog.current or (computing[0] if len(computing) == 1 else None)

    def _beat(self) -> None:
        with self._engine.begin() as connection:
            lives = beat(connection, self._identity.id)
        if not lives:
            self._end_given_up()

    def _end_given_up(self) -> NoReturn:
        """End at once: others do what this worker is at."""
        running = self._watchdog.running
        reason = "it was silent for too long, and others took its jobs over; it ends"
        _log.critical("worker.given_up", worker=self._identity.id, running=len(running),
                      reason=reason)  # fmt: skip
        self._events.note(WorkerStep.GIVEN_UP, reason)
        with _going_on():
            self._events.flush()
        os._exit(Ending.GIVEN_UP)


@contextmanager
def _going_on() -> Iterator[None]:
    """Let what runs go on, whatever fails in the block."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        _log.warning("worker.database_away", error=type(error).__name__)
    except Exception as error:  # noqa: BLE001 - what runs must not end for it
        # Such as no thread or file more: to leave here is to close what others compute with.
        _log.error("worker.not_looked_after", error=type(error).__name__, where=where(error))
