"""Knows since when each analysis runs, and tells when one runs too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_SECONDS = 1.0


class Watchdog:
    """Watches the analyses of a process.

    Parameters
    ----------
    ended : callable
        Called after each analysis, in its thread.
    """

    def __init__(self, ended: Callable[[], None] = lambda: None) -> None:
        # By analysis and block: the same one may be watched twice, such as one that is taken up
        # again while an earlier job of it still ends.
        self._since: dict[tuple[str, object], float] = {}
        self._guard = threading.Lock()
        self._ended = ended
        self._here = threading.local()

    @contextmanager
    def watching(self, analysis_id: str) -> Iterator[None]:
        """Watch for the duration of the block."""
        block = (analysis_id, object())
        with self._guard:
            self._since[block] = time.monotonic()
        self._here.analysis = analysis_id
        try:
            yield
        finally:
            with self._guard:
                del self._since[block]
            self._here.analysis = None
            self._ended()

    def excuse(self, analysis_id: str, seconds: float) -> None:
        """Do not count so much of an analysis that is watched: it waited for others."""
        with self._guard:
            for block, since in self._since.items():
                if block[0] == analysis_id:
                    self._since[block] = since + seconds

    @property
    def running(self) -> tuple[str, ...]:
        """The analyses that run now."""
        with self._guard:
            return tuple(dict.fromkeys(name for name, _ in self._since))

    @property
    def current(self) -> str | None:
        """The analysis of this thread, or the only one that runs; None if that is not known."""
        here: str | None = getattr(self._here, "analysis", None)
        running = self.running
        return here or (running[0] if len(running) == 1 else None)

    def overdue(self, seconds: float) -> str | None:
        """Return the analysis that runs longest, if that is longer than so many seconds."""
        limit = time.monotonic() - seconds
        with self._guard:
            late = [(since, name) for (name, _), since in self._since.items() if since < limit]
        return min(late)[1] if late else None

    def start(self, seconds: float, bite: Callable[[str], None]) -> None:
        """Look from now on, in a thread of its own: what is stuck may hold up every other one.

        Parameters
        ----------
        seconds : float
            How long an analysis may run.
        bite : callable
            Given the analysis that runs longer; called once.
        """

        def look() -> None:
            while True:
                if (late := self.overdue(seconds)) is not None:
                    bite(late)
                    return
                time.sleep(min(_LOOK_SECONDS, seconds / 4))

        threading.Thread(target=look, name="watchdog", daemon=True).start()
