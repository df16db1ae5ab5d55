"""A clock that is set while the node runs: told by another one that nobody sets."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

# A clock that is but kept right is moved by less between two looks.
_STEP_SECONDS = 1.0


class ClockSteps:
    """Tells by how much the clock was set, or how long the machine slept.

    Parameters
    ----------
    steady : callable
        Returns seconds of a clock that nobody sets.
    """

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._last: tuple[datetime, float] | None = None
        self._back = 0.0
        self._is_told = False

    def since(self, now: datetime) -> float:
        """Return by how many seconds since the last look: below 0 if it was set back, mostly 0."""
        before, self._last = self._last, (now, seconds := self._steady())
        if before is None:
            return 0.0
        step = (now - before[0]).total_seconds() - (seconds - before[1])
        return step if abs(step) > _STEP_SECONDS else 0.0

    def when_set_back(self, now: datetime, then: Callable[[timedelta], object]) -> None:
        """Call `then` with by how much it was set back, if it was.

        At first too, with 0: nobody knows what happened to it before. What fails, such as with a
        database that is away, is called with the same once more.
        """
        self._back += max(0.0, -self.since(now))
        if self._back or not self._is_told:
            then(timedelta(seconds=self._back))
            self._back, self._is_told = 0.0, True
