"""Jobs that a worker has taken from the queue and not begun.

The job engine counts a job from the moment that its thread begins. A look that comes before, since
a bell rings meanwhile, would find a slot free that is taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

# One that has not begun by then hardly will: it could not be read, or no thread was to be had.
_LONGEST_SECONDS = 10.0


class Claims:
    """Counts such jobs by queue; any thread.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Queue and time of each, by id.
        self._claimed: dict[str, tuple[str, float]] = {}

    def add(self, queue: str, job_ids: Iterable[str]) -> None:
        """Count jobs that were taken just now and have not begun."""
        now = self._clock()
        with self._lock:
            self._claimed.update((one, (queue, now)) for one in job_ids)

    def begun(self, job_id: str | None) -> None:
        """Count a job no longer."""
        with self._lock:
            self._claimed.pop(job_id or "", None)

    def count(self, queue: str) -> int:
        """Return how many jobs of a queue were taken and have not begun."""
        with self._lock:
            return sum(name == queue for name, _ in self._kept().values())

    @property
    def ids(self) -> frozenset[str]:
        """The jobs that were taken and have not begun."""
        with self._lock:
            return frozenset(self._kept())

    def _kept(self) -> dict[str, tuple[str, float]]:
        oldest = self._clock() - _LONGEST_SECONDS
        self._claimed = {one: where for one, where in self._claimed.items() if where[1] > oldest}
        return self._claimed
