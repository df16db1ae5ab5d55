"""Where the reactor of pynetdicom pauses while another thread sends and awaits the response."""

from __future__ import annotations

import threading

from pynetdicom.association import Association

_LOOK_SECONDS = 0.05


class Checkpoint(threading.Event):
    """An event whose `clear` returns when the reactor is held by it.

    pynetdicom's senders clear an event and then ask a flag whether the reactor is paused. The flag
    is wrong now and then. The reactor sets it before it waits and takes it back after: one that had
    just passed the event goes on for one more round, in which it may take the response that the
    sender waits for. And an N-EVENT-REPORT is served by a thread of its own, which sets the flag
    and takes it back on its own account, also while the reactor is paused.

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


def checkpoint_of(association: Association) -> Checkpoint:
    """Return the checkpoint of an association, which gets one when it is first asked for.

    Nobody may be sending then, except through another one of these.
    """
    found = association._reactor_checkpoint
    if not isinstance(found, Checkpoint):
        association._reactor_checkpoint = found = Checkpoint(association)
    return found
