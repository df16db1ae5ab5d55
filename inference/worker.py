"""The worker process: models stay loaded, jobs come from the queue, a silent worker is swept."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
import structlog

from db.errors import DatabaseError
from db.results import still_pending
from db.workers import WorkerIdentity, beat, enter, leave, sweep_silent

from .analyst import Analyst
from .errors import InferenceError
from .heap import keep_freed_memory
from .jobs import JobQueue, JobRunner

_log = structlog.get_logger()

_BEAT_SECONDS = 5.0
_SWEEP_SECONDS = 10.0
# Half a second's work, between two beats.
_INDEXED_AT_ONCE = 500
# Work is kept for weeks, facts for years.
_JOBS_KEPT = timedelta(days=28)
_ATTEMPTS = 3
_RETRY_SECONDS = 1.0
# sysexits.h EX_SOFTWARE: the supervisor starts the worker anew.
_STUCK_EXIT_STATUS = 70


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker behaves.

    Attributes
    ----------
    concurrency : int
        Analyses at once.
    timeout_seconds : float
        An analysis that takes longer ends the process; the job is tried again, a few times.
    silence_seconds : float
        Jobs of a worker silent for so long go to another one.
    grace_seconds : int
        How long running analyses may go on after a request to stop.
    """

    concurrency: int = 1
    timeout_seconds: float = 600.0
    silence_seconds: float = 120.0
    grace_seconds: int = 20


@contextmanager
def claim_worker_id(folder: Path, device: str) -> Iterator[str]:
    """Hold a stable name such as ``host-cpu0`` that no other live process on this host has.

    The lock is the kernel's: a killed worker frees its name, and its successor takes up the jobs
    that were left under it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{socket.gethostname()}-{device.replace(':', '')}"
    for number in range(256):
        name = stem if device.startswith("cuda:") and number == 0 else f"{stem}-{number}"
        with (folder / f"{name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield name
            return
    raise InferenceError(f"256 workers run on this host already (locks in {folder})")


class Watchdog:
    """Knows since when each analysis runs."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    @contextmanager
    def watching(self, analysis_id: str) -> Iterator[None]:
        """Watch for the duration of the block."""
        self._since[analysis_id] = time.monotonic()
        try:
            yield
        finally:
            del self._since[analysis_id]

    def overdue(self, seconds: float) -> str | None:
        """Return an analysis that runs longer than that."""
        limit = time.monotonic() - seconds
        return next((name for name, since in dict(self._since).items() if since < limit), None)


class Worker:
    """Runs jobs until told to stop.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    analyst : Analyst
    identity : WorkerIdentity
    settings : WorkerSettings
    """

    def __init__(
        self,
        engine: sa.Engine,
        analyst: Analyst,
        identity: WorkerIdentity,
        settings: WorkerSettings,
    ) -> None:
        self._engine = engine
        self._analyst = analyst
        self._identity = identity
        self._settings = settings
        self._watchdog = Watchdog()
        self._queue = JobQueue(engine)
        self._runner = JobRunner(engine, identity.id, self._run, settings.concurrency)

    def serve(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then let running analyses end."""
        with self._engine.begin() as connection:
            enter(connection, self._identity)
        keep_freed_memory()
        self._runner.start()
        _log.info(
            "worker.started",
            worker=self._identity.id,
            device=self._identity.device,
            models=list(self._identity.models),
        )
        next_sweep = 0.0
        while not stop.wait(_BEAT_SECONDS):
            self._exit_if_stuck()
            try:
                self._beat()
                self._analyst.facts.index_new(_INDEXED_AT_ONCE)
                if time.monotonic() >= next_sweep:
                    self._sweep()
                    next_sweep = time.monotonic() + _SWEEP_SECONDS
            except sa.exc.SQLAlchemyError as error:
                _log.warning("worker.database_away", error=type(error).__name__)
        self._runner.stop(self._settings.grace_seconds)
        self._queue.close()
        with self._engine.begin() as connection:
            leave(connection, self._identity.id)
        _log.info("worker.stopped", worker=self._identity.id)

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
                if attempt >= _ATTEMPTS:
                    self._analyst.fail(analysis_id, "error", _explain(error))
                    return
                time.sleep(_RETRY_SECONDS * attempt)
                # A database that is away is no fault of the study: until the watchdog bites, wait.
                attempt += not isinstance(error, sa.exc.OperationalError)

    def _attempt(self, analysis_id: str) -> Exception | None:
        try:
            self._analyst.analyse(analysis_id)
        except Exception as error:  # noqa: BLE001 - the boundary of the job; logged by the caller
            return error
        return None

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

    def _exit_if_stuck(self) -> None:
        stuck = self._watchdog.overdue(self._settings.timeout_seconds)
        if stuck is not None:
            _log.critical("analysis.stuck", analysis=stuck[:12])
            os._exit(_STUCK_EXIT_STATUS)


def _where(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def _explain(error: Exception) -> str:
    """Name the error without its message where that may quote patient data."""
    if isinstance(error, (InferenceError, DatabaseError)):
        return str(error)
    return f"{type(error).__name__} at {_where(error)}"
