"""With which exit status a worker ends, for whoever starts it anew. Light: no torch."""

from __future__ import annotations

from enum import IntEnum


class Ending(IntEnum):
    """Why a worker ended; the value is the exit status of its process.

    All but the first ask for a new process, which a supervisor gives. 70 is EX_SOFTWARE of
    sysexits.h; 75 and above mean something else there.
    """

    STOPPED = 0
    STUCK = 70
    DEVICE_LOST = 71
    RECYCLED = 72
    GIVEN_UP = 73
