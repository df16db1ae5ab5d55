"""How many analyses a worker is at."""

from __future__ import annotations

import threading
from collections.abc import Callable


class UnderWay:
    """Counts what runs; it is true while anything does.

    Parameters
    ----------
    begun : callable
        Called by what begins while nothing else runs.
    """

    def __init__(self, begun: Callable[[], None] = lambda: None) -> None:
        self._begun = begun
        self._lock = threading.Lock()
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def counting(self, run: Callable[[str], None]) -> Callable[[str], None]:
        """Return what does the same and is counted; any thread."""

        def counted(analysis_id: str) -> None:
            with self._lock:
                self._count += 1
                is_first = self._count == 1
            try:
                if is_first:
                    self._begun()
                run(analysis_id)
            finally:
                with self._lock:
                    self._count -= 1

        return counted
