"""The end of a worker's process, which nothing that still runs in it may hold up.

The interpreter waits for the threads of the job engine, and so for an analysis that goes on after
the time it was given. By then others take it for gone: its name is free, and they begin the
analysis themselves.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import NoReturn

import structlog

_log = structlog.get_logger()
# Closing takes a fraction of a second.
_CLOSE_SECONDS = 10.0


def end_now(status: int) -> NoReturn:
    """End this process with whatever runs in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def end_soon(status: int, seconds: float = _CLOSE_SECONDS) -> None:
    """See to it that this process has ended in so many seconds; say what held it up if it has not.

    Parameters
    ----------
    status : int
        Its exit status then.
    seconds : float
    """

    def end() -> None:
        _log.error("process.held_up", threads=_threads())
        end_now(status)

    last = threading.Timer(seconds, end)
    last.daemon = True
    last.start()


def _threads() -> dict[str, str]:
    """Return where each thread of this process is."""
    frames = sys._current_frames()
    places = {}
    for thread in threading.enumerate():
        if (frame := frames.get(thread.ident or 0)) is not None:
            code = frame.f_code
            place = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"
            places[thread.name] = place
    return places
