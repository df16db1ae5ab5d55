"""Senders at work, each in a thread of its own; and how long one waits after a failure."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from db.wakeable import WakeableEvent

# What one sender does until the event is set.
Run = Callable[[threading.Event], None]


def backoff(n_attempts: int, first_seconds: float, most_seconds: float) -> float:
    """Return the wait after an attempt in seconds: doubling, bounded, spread by a tenth."""
    doubled = first_seconds * 2.0 ** min(max(n_attempts - 1, 0), 60)
    spread = random.uniform(0.95, 1.05)  # noqa: S311 - not for secrets
    return min(doubled, most_seconds) * spread


class SenderThreads:
    """Runs senders side by side, so that one that is held up holds up nobody else.

    Parameters
    ----------
    name : str
        Of the threads.
    runs : sequence of callable
    """

    def __init__(self, name: str, runs: Sequence[Run]) -> None:
        self._name = name
        self._runs = tuple(runs)
        self._stopping = WakeableEvent()
        self._threads: tuple[threading.Thread, ...] = ()

    def start(self) -> None:
        """Start sending and return."""
        self._stopping.clear()
        self._threads = tuple(
            threading.Thread(target=run, args=(self._stopping,), name=self._name, daemon=True)
            for run in self._runs
        )
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Let senders that pause look for work now; any thread."""
        self._stopping.wake()

    def tell_to_stop(self) -> None:
        """Begin nothing new; return at once."""
        self._stopping.set()

    def stop(self, seconds: float = 30.0) -> None:
        """Stop after what is in hand, or when the time is over: leases bring it back."""
        self.tell_to_stop()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
