"""A wall-clock bound for whatever is done on an association."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pynetdicom.association import Association


@contextmanager
def deadline(association: Association, seconds: float) -> Iterator[None]:
    """Shut the connection down if the block takes longer.

    pynetdicom's time-outs cover a peer that says nothing. They do not cover one that takes no more
    bytes or stops in the middle of a PDU: then a thread sits in a system call, and even an abort
    waits for it. Shutting the socket down wakes it, and the state machine ends as on any lost
    connection.
    """
    timer = start_timer(association, seconds)
    try:
        yield
    finally:
        timer.cancel()


def start_timer(association: Association, seconds: float) -> threading.Timer:
    """Return a running timer that shuts the connection down unless it is cancelled."""
    timer = threading.Timer(seconds, _shut_down, (association,))
    timer.daemon = True
    timer.start()
    return timer


def _shut_down(association: Association) -> None:
    transport: Any = association.dul.socket
    if transport is None or transport.socket is None:
        return
    try:
        transport.socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is already down
