"""How workers ended that could not say so themselves, as whoever started them saw it.

A worker that is killed writes nothing. Its supervisor sees the status of its process, and puts it
into the log and the counters at once, and into the database as soon as that is there.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from db import create_engine
from db.faults import is_away
from db.worker_events import WorkerEventRecord, WorkerStep, add
from inference.endings import Ending
from inference.worker_id import name_of

from .settings import Settings
from .supervisor import PartEnd

_log = structlog.get_logger()
# A database that is away is asked again; who ends meanwhile does not wait for long.
_RETRY_SECONDS = 5.0
_WAIT_SECONDS = 5.0
_LAST_WORDS_SECONDS = 2.0
# Of a database that is away for days the first are kept; the log has all.
_MOST_WAITING = 1000
# Of a part that found the database or a disk away (`cli.run`): it did not crash, it is tried again.
_AWAY_STATUS = 75
# Endings that the worker tells of itself, or that are none of its.
_TOLD = frozenset({*map(int, Ending), _AWAY_STATUS})


@contextmanager
def told_of_ends(
    settings: Settings, parts: Collection[str], counted: Callable[[str], None]
) -> Iterator[Callable[[PartEnd], None]]:
    """Yield what is to be told of parts that ended; it never waits.

    Parameters
    ----------
    settings : Settings
    parts : collection of str
        Names of those that are workers.
    counted : callable
        Is told the step of each event.
    """
    waiting: queue.SimpleQueue[WorkerEventRecord | None] = queue.SimpleQueue()
    stop = threading.Event()
    folder = settings.data_dir / "workers"

    def ended(end: PartEnd) -> None:
        if end.name not in parts or end.status in _TOLD:
            return
        step, reason = _said(end)
        worker = name_of(folder, end.pid) or end.name
        _log.error(f"worker.{step}", worker=worker, name=end.name, pid=end.pid, reason=reason)
        counted(step)
        if waiting.qsize() < _MOST_WAITING:
            waiting.put(WorkerEventRecord(datetime.now(UTC), worker, step, reason))

    thread = threading.Thread(
        target=_write, args=(settings, waiting, stop), name="worker-ends", daemon=True
    )
    thread.start()
    try:
        yield ended
    finally:
        waiting.put(None)
        thread.join(_LAST_WORDS_SECONDS)
        stop.set()


def _said(end: PartEnd) -> tuple[WorkerStep, str]:
    if end.status >= 0:
        return WorkerStep.CRASHED, (
            f"its process {end.pid} ended with status {end.status}; the log says why"
        )
    name = _signal_name(-end.status)
    hint = "; without memory the kernel does that, and its log says so" if name == "SIGKILL" else ""
    return WorkerStep.KILLED, f"its process {end.pid} was killed by {name}{hint}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _write(
    settings: Settings,
    waiting: queue.SimpleQueue[WorkerEventRecord | None],
    stop: threading.Event,
) -> None:
    engine: sa.Engine | None = None
    while (event := waiting.get()) is not None:
        engine = engine or create_engine(settings.db_url, pool_size=1, wait_seconds=_WAIT_SECONDS)
        while not stop.is_set():
            try:
                with engine.begin() as connection:
                    add(connection, [event])
                break
            except Exception as error:  # noqa: BLE001 - the boundary of the thread
                if not is_away(error):
                    # Nor would it be stored another time, and those behind it would wait for ever.
                    _log.error(
                        "worker.end_dropped", worker=event.worker, step=event.step,
                        error=type(error).__name__,
                    )  # fmt: skip
                    break
                _log.warning("worker.end_not_stored", error=type(error).__name__)
                stop.wait(_RETRY_SECONDS)
    if engine is not None:
        engine.dispose()
