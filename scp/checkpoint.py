"""Where pynetdicom's reactor pauses while another thread sends and awaits the response."""

from __future__ import annotations

import threading

from pynetdicom.association import Association

_LOOK_SECONDS = 0.05


class Checkpoint(threading.Event):
    """An event whose `clear` returns when the reactor is held by it.

    pynetdicom's senders clear an event and then ask whether the reactor says that it is paused. It
    says so before it waits and takes it back after: one that had just passed the event goes on for
    one more round, in which it may take the response that the sender waits for.

    Parameters
    ----------
    reactor : threading.Thread
        The thread that is to be held.
    """

    def __init__(self, reactor: threading.Thread) -> None:
        super().__init__()
        self._reactor = reactor
        self._changed = threading.Condition()
        self._is_open = True
        self._is_held = False

    def is_set(self) -> bool:
        """Return whether the reactor may go on."""
        return self._is_open

    def set(self) -> None:
        """Let the reactor go on."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Hold the reactor; on return it is held, or has ended."""
        with self._changed:
            self._is_open = False
            if threading.current_thread() is self._reactor:
                return
            while not self._is_held and not self._is_open and self._reactor.is_alive():
                self._changed.wait(_LOOK_SECONDS)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until `set`; for the reactor."""
        with self._changed:
            self._is_held = True
            self._changed.notify_all()
            try:
                return self._changed.wait_for(self.is_set, timeout)
            finally:
                self._is_held = False


def guard(association: Association) -> None:
    """Give an association a checkpoint of its own, while nobody sends on it."""
    association._reactor_checkpoint = Checkpoint(association)
