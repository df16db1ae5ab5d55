"""An analysis that does not return ends its process: nothing else ends a kernel that is stuck."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from db.errors import DatabaseError
from db.worker_events import WorkerStep, count

from .endings import Ending
from .event_book import EventBook

_log = structlog.get_logger()
# Each takes the whole time that an analysis may take.
_ATTEMPTS = 2
# How long a process that is stuck may take to say so.
_LAST_WORDS_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class StuckExit:
    """Ends the process for an analysis that is stuck.

    Attributes
    ----------
    engine : sqlalchemy.Engine
    events : EventBook
    seconds : float
        How long an analysis may run.
    running : callable
        Gives the analyses that run now.
    fail : callable
        Given analysis, code and reason, records that it failed.
    put_back : callable
        Queues other analyses of this process as if they had not begun: they are no poison.
    suspects : callable
        Given the analysis that runs longer, gives those that hold it up, where several share a
        device; none if it is stuck elsewhere. Each is counted; as `was_stuck` tells, whoever was
        among them is to run alone from then on, and so the second time it is known which one it is.
    """

    engine: sa.Engine
    events: EventBook
    seconds: float
    running: Callable[[], Sequence[str]]
    fail: Callable[[str, str, str], None]
    put_back: Callable[[Sequence[str]], object]
    suspects: Callable[[str], Sequence[str]] = lambda _late: ()

    def __call__(self, late: str) -> None:
        """Say what is stuck, and end the process."""
        reason = f"it ran longer than {self.seconds:g} s"
        stuck = tuple(self.suspects(late)) or (late,)
        for one in stuck:
            _log.critical("analysis.stuck", analysis=one[:12], reason=reason, shared=len(stuck))
        # What is stuck may hold what is needed to say so.
        words = threading.Thread(target=self._settle, args=(stuck, reason), daemon=True)
        words.start()
        words.join(_LAST_WORDS_SECONDS)
        os._exit(Ending.STUCK)

    def _settle(self, stuck: Sequence[str], reason: str) -> None:
        """Count what was stuck, give it up in the end, and put back the others."""
        others = [one for one in self.running() if one not in stuck]
        try:
            for one in stuck:
                self.events.note(WorkerStep.STUCK, reason, one)
            self.events.flush()
            for one in stuck:
                self._give_up(one, reason)
            self.put_back(others)
        except (sa.exc.SQLAlchemyError, DatabaseError) as error:
            _log.warning("worker.database_away", error=type(error).__name__)

    def _give_up(self, stuck: str, reason: str) -> None:
        with self.engine.connect() as connection:
            times = count(connection, WorkerStep.STUCK, analysis_id=stuck)
        if times >= _ATTEMPTS:
            self.fail(
                stuck,
                "stuck",
                f"{reason}, {times} times; if it needs longer, raise inference.timeout_seconds "
                "and retry it",
            )


def was_stuck(engine: sa.Engine, analysis_id: str) -> bool:
    """Tell whether an analysis was among those that were stuck; then it is to run alone."""
    with engine.connect() as connection:
        return count(connection, WorkerStep.STUCK, analysis_id=analysis_id) > 0
