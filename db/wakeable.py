"""An event that a loop pauses on between two looks, and that can end the pause without a stop."""

from __future__ import annotations

import threading
from collections.abc import Callable


class WakeableEvent(threading.Event):
    """An event whose `wait` also returns, with False, when `wake` is called.

    For loops that look for work, wait for so long, and look again, until the event is set. A wake
    that comes while a thread is at work counts: its next `wait` returns at once. Each thread hears
    of each wake; of several that came meanwhile it hears once.

    Parameters
    ----------
    patience : callable
        Gives how many times as long as it is told a `wait` may last; asked when it begins.
    """

    def __init__(self, patience: Callable[[], float] = lambda: 1.0) -> None:
        super().__init__()
        self._patience = patience
        self._changed = threading.Condition()
        self._n_wakes = 0
        self._heard = threading.local()

    def set(self) -> None:
        """Set it; every `wait` returns True from now on."""
        super().set()
        with self._changed:
            self._changed.notify_all()

    def wake(self) -> None:
        """End the pause of every thread that waits, and the next one of every other."""
        with self._changed:
            self._n_wakes += 1
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for `set`, `wake` or the end of the time; tell whether it is set."""
        if timeout is not None:
            timeout *= self._patience()
        with self._changed:
            before = getattr(self._heard, "n_wakes", 0)
            self._changed.wait_for(lambda: self.is_set() or self._n_wakes != before, timeout)
            self._heard.n_wakes = self._n_wakes
        return self.is_set()


def make_wakeable(
    event: threading.Event, patience: Callable[[], float] = lambda: 1.0
) -> WakeableEvent:
    """Return what wakes the threads that wait, from now on, for somebody else's event.

    `event` itself stays what it is to everybody else: it is set and asked as before.
    """
    wakeable = WakeableEvent(patience)
    is_set, set_it = event.is_set, event.set

    def set_both() -> None:
        set_it()
        wakeable.set()

    if is_set():
        wakeable.set()
    # On the object: the threads look the method up each time that they wait.
    for name, method in (("wait", wakeable.wait), ("set", set_both)):
        setattr(event, name, method)
    return wakeable


class WakeableEvents(list[threading.Event]):
    """A list whose events are wakeable from the moment that they are appended.

    Parameters
    ----------
    patience : callable
        As of `WakeableEvent`, for all of them.
    """

    def __init__(self, patience: Callable[[], float] = lambda: 1.0) -> None:
        super().__init__()
        self._patience = patience
        self._wakeable: list[WakeableEvent] = []

    def append(self, event: threading.Event) -> None:
        """Take up an event; threads that wait for it later can be woken."""
        self._wakeable.append(make_wakeable(event, self._patience))
        super().append(event)

    def wake(self) -> None:
        """End the pauses on all events; any thread."""
        for one in tuple(self._wakeable):
            one.wake()
