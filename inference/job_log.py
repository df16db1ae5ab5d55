"""What the job engine writes into the log, where it would fill a disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable


class Seldom(logging.Filter):
    """Lets a warning through once in a while.

    Each look for jobs writes two of them while the database is away, and there are ten in a second.

    Parameters
    ----------
    seconds : float
        Between two warnings of one place of the code and one thread.
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[tuple[str, int, str | None], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is written; errors always are."""
        if record.levelno != logging.WARNING:
            return True
        place, now = (record.pathname, record.lineno, _kind(record.threadName)), self._clock()
        with self._lock:
            if now - self._said.get(place, float("-inf")) < self._seconds:
                return False
            self._said[place] = now
        return True


def _kind(thread: str | None) -> str | None:
    """Return the name of the threads that do the same."""
    return None if thread is None else thread.rstrip("0123456789_-")
