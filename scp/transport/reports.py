"""N-EVENT-REPORT requests that this node sends in an association that a peer has opened.

Only the association's own thread sends. It sleeps in the kernel until bytes come, or until another
thread has something for it; and it sends between two messages of the peer, when the peer has been
silent for a moment: what crosses a request of the peer is taken by some for its response.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from .command import Notice

# How long a peer must have said nothing.
_QUIET_SECONDS = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class EventReport:
    """An N-EVENT-REPORT to send (PS3.7 Section 10.1.1).

    Attributes
    ----------
    context_id : int
        Presentation context to send it in.
    event_type : int
        Event Type ID.
    information : bytes
        The data set, in the transfer syntax of that context.
    done : callable
        Told the status of the response, or None if there was none before the end; called by the
        association's thread, and must not raise.
    """

    context_id: int
    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    information: bytes
    done: Callable[[int | None], None]


class Waited(Enum):
    """Why waiting ended."""

    READABLE = auto()
    DUE = auto()
    SILENT = auto()


class Reports:
    """The reports of one association; `put`, `withdraw` and `is_over` may be used by any thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[EventReport] = deque()
        self._sent: EventReport | None = None
        self._message_id = 0
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether the association has ended."""
        return self._is_over

    def put(self, report: EventReport) -> bool:
        """Have a report sent; False if the association has ended."""
        with self._guard:
            if self._is_over:
                return False
            self._waiting.append(report)
            with suppress(BlockingIOError):  # it was woken a thousand times already
                os.write(self._wake, b"\0")
            return True

    def withdraw(self, report: EventReport) -> bool:
        """Take back a report that was not sent yet; False if it was, or is done with."""
        with self._guard:
            if report not in self._waiting:
                return False
            self._waiting.remove(report)
            return True

    def wait(self, connection: Any, seconds: float | None) -> Waited:
        """Sleep until bytes can be received, or a report is due, or the peer was silent too long.

        Parameters
        ----------
        seconds : float or None
            How long the peer may be silent; None for ever.
        """
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return Waited.READABLE
        now = time.monotonic()
        silent_at = None if not seconds else now + seconds
        # From here, not from the last byte: storing an image may have taken longer, and a peer that
        # has just been answered sends the next.
        quiet_at = now + _QUIET_SECONDS
        while True:
            is_wanted = bool(self._waiting) and self._sent is None
            ends = [one for one in (silent_at, quiet_at if is_wanted else None) if one]
            # Asked first, whatever the time is: what has come meanwhile goes before a report.
            if self._is_readable(connection, max(0.0, min(ends) - now) if ends else None):
                return Waited.READABLE
            now = time.monotonic()
            if is_wanted and now >= quiet_at:
                return Waited.DUE
            if silent_at is not None and now >= silent_at:
                return Waited.SILENT

    def next(self) -> tuple[int, EventReport] | None:
        """Return the report to send now, with its Message ID."""
        with self._guard:
            if not self._waiting or self._sent is not None:
                return None
            self._sent = self._waiting.popleft()
            self._message_id = self._message_id % 0xFFFF + 1
            return self._message_id, self._sent

    def answered(self, response: Notice) -> None:
        """Take the response to the report that was sent; what answers nothing is dropped."""
        sent = self._sent
        if sent is not None and response.responds_to == self._message_id:
            self._sent = None
            sent.done(response.status)

    def close(self) -> None:
        """Say of all that was not answered that it will not be."""
        with self._guard:
            self._is_over = True
            left = [*([self._sent] if self._sent else []), *self._waiting]
            self._sent = None
            self._waiting.clear()
            os.close(self._woken)
            os.close(self._wake)
        for report in left:
            report.done(None)

    def _is_readable(self, connection: socket.socket, seconds: float | None) -> bool:
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        ready = {number for number, _ in poll.poll(None if seconds is None else seconds * 1000 + 1)}
        if self._woken in ready:
            with suppress(BlockingIOError):
                os.read(self._woken, 4096)
        return connection.fileno() in ready
