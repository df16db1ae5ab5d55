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
        self._since: dict[str, float] = {}
        self._ended = ended
        self._here = threading.local()

    @contextmanager
    def watching(self, analysis_id: str) -> Iterator[None]:
        """Watch for the duration of the block."""
        self._since[analysis_id] = time.monotonic()
        self._here.analysis = analysis_id
        try:
            yield
        finally:
            del self._since[analysis_id]
            self._here.analysis = None
            self._ended()

    def excuse(self, analysis_id: str, seconds: float) -> None:
        """Do not count so much of an analysis that is watched: it waited for others."""
        if (since := self._since.get(analysis_id)) is not None:
            self._since[analysis_id] = since + seconds

    @property
    def running(self) -> tuple[str, ...]:
        """The analyses that run now."""
        return tuple(dict(self._since))

    @property
    def current(self) -> str | None:
        """The analysis of this thread, or the only one that runs; None if that is not known."""
        here: str | None = getattr(self._here, "analysis", None)
        running = self.running
        return here or (running[0] if len(running) == 1 else None)

    def overdue(self, seconds: float) -> str | None:
        """Return the analysis that runs longest, if that is longer than so many seconds."""
        limit = time.monotonic() - seconds
        late = [(since, name) for name, since in dict(self._since).items() if since < limit]
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
