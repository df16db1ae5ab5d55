"""A worker that takes no more jobs, and those under way end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LOOK_SECONDS = 0.2
# A runner that was told how long it may wait is given a little more.
_SLACK_SECONDS = 2.0


def drain(
    stop_runner: Callable[[int], None],
    stop: threading.Event,
    *,
    grace_seconds: int,
    patient_seconds: int,
    look_after: Callable[[], None],
) -> None:
    """Stop a runner and wait for what it runs.

    Parameters
    ----------
    stop_runner : callable
        Takes no more jobs at once and waits for so many seconds for those under way.
    stop : threading.Event
        Whether somebody wants the process to end.
    grace_seconds : int
        How long they are waited for from then on.
    patient_seconds : int
        How long while nobody does.
    look_after : callable
        Called again and again meanwhile: who still computes has to say that it lives, or others
        take up what it does.
    """
    seconds = grace_seconds if stop.is_set() else max(grace_seconds, patient_seconds)
    ends = threading.Thread(target=stop_runner, args=(seconds,), name="drain", daemon=True)
    ends.start()
    deadline: float | None = None
    while ends.is_alive():
        ends.join(_LOOK_SECONDS)
        if deadline is None and stop.is_set():
            deadline = time.monotonic() + grace_seconds + _SLACK_SECONDS
        if deadline is not None and time.monotonic() > deadline and seconds > grace_seconds:
            return
        look_after()


def let_routine_end(
    is_at_routine: Callable[[], bool],
    stop: threading.Event,
    *,
    seconds: float,
    look_after: Callable[[], None],
) -> None:
    """Wait for routine analyses of a worker that takes no more of them, before `drain`.

    It goes on with STAT meanwhile, which would have to wait for the process that comes after it.

    Parameters
    ----------
    is_at_routine : callable
        Whether some are under way.
    stop : threading.Event
        Whether somebody wants the process to end: nothing is waited for then.
    seconds : float
        How long at most.
    look_after : callable
        As of `drain`.
    """
    deadline = time.monotonic() + seconds
    while is_at_routine() and time.monotonic() < deadline:
        if stop.wait(_LOOK_SECONDS):
            return
        look_after()
