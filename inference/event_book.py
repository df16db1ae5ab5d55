"""What happens to a worker and its engines goes into the log at once and into the database soon.

Engines tell in the thread that computes, where nobody may wait for a database.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from db.worker_events import WorkerEventRecord, WorkerStep, add

from .engines.engine_events import Event, Step, log_event

_log = structlog.get_logger()
# Of a database that is away for long the latest are kept.
_MOST_WAITING = 1000


class EventBook:
    """Takes events down.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    worker : str
        Id of the worker.
    device : str
        On which it runs.
    counted : callable
        Is told the step of each event, for metrics.
    """

    def __init__(
        self,
        engine: sa.Engine,
        worker: str,
        device: str,
        counted: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._engine = engine
        self._worker = worker
        self._device = device
        self.counted = counted
        self._waiting: deque[WorkerEventRecord] = deque(maxlen=_MOST_WAITING)
        self._taking = threading.Lock()
        self._writing = threading.Lock()
        self._lost: str | None = None
        # Which analysis is under way in the thread that asks, if that is known.
        self.under_way: Callable[[], str | None] = lambda: None

    @property
    def lost(self) -> str | None:
        """Why a device is lost, after which only a new process brings it back; None before."""
        return self._lost

    def tell(self, event: Event) -> None:
        """Take down what an engine says."""
        log_event(event)
        if event.step is Step.DEVICE_LOST:
            self._lost = event.reason
        self._take(
            event.step, event.reason, event.engine, event.device, event.rows, self.under_way()
        )

    def lose(self, engine: str, error: Exception) -> None:
        """Take down that the device is lost, where no engine says so."""
        if self._lost is None:
            self.tell(Event(Step.DEVICE_LOST, engine, self._device, 1, str(error)))

    def note(self, step: WorkerStep, reason: str, analysis_id: str | None = None) -> None:
        """Take down what happens to the worker; who calls writes the log."""
        self._take(step, reason, None, self._device, None, analysis_id)

    def flush(self) -> None:
        """Write what waits into the database.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError
            If it is away; then all wait on, the latest 1,000 if there are more.
        """
        with self._writing:
            with self._taking:
                taken = tuple(self._waiting)
                self._waiting.clear()
            is_written = not taken
            try:
                if taken:
                    with self._engine.begin() as connection:
                        add(connection, taken)
                    is_written = True
            finally:
                if not is_written:
                    self._put_back(taken)

    def _put_back(self, taken: tuple[WorkerEventRecord, ...]) -> None:
        """Let events wait again, before those that came meanwhile."""
        with self._taking:
            later = tuple(self._waiting)
            self._waiting.clear()
            self._waiting.extend((*taken, *later))

    def _take(
        self,
        step: str,
        reason: str,
        engine: str | None,
        device: str,
        rows: int | None,
        analysis_id: str | None,
    ) -> None:
        self.counted(str(step))
        event = WorkerEventRecord(
            at=datetime.now(UTC),
            worker=self._worker,
            step=str(step),
            reason=reason,
            engine=engine,
            device=device,
            n_rows=rows,
            analysis_id=analysis_id,
        )
        with self._taking:
            self._waiting.append(event)
