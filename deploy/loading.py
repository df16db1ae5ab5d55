"""Loading models at the start of a worker, which a request to stop does not wait for.

The first start exports networks, which takes tens of seconds and cannot be interrupted: the process
ends around it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import NoReturn

from .errors import DeployError

# How soon it is seen that the process is to end.
_LOOK_SECONDS = 0.1


class StoppedEarlyError(DeployError):
    """The process was asked to stop before its models were loaded."""


def beside(load: Callable[[], None]) -> Future[None]:
    """Load in a thread that the end of the process does not wait for."""
    loaded: Future[None] = Future()

    def run() -> None:
        try:
            load()
        except BaseException as error:  # noqa: BLE001 - the boundary of the thread; raised by who waits
            loaded.set_exception(error)
        else:
            loaded.set_result(None)

    Thread(target=run, name="warm", daemon=True).start()
    return loaded


def wait_for(loaded: Future[None], stop: Event) -> None:
    """Wait until everything is loaded.

    Raises
    ------
    StoppedEarlyError
        If `stop` is set before.
    Exception
        What loading raised.
    """
    while not stop.is_set():
        with suppress(TimeoutError):
            loaded.result(_LOOK_SECONDS)
            return
        if loaded.done():  # it raised the same
            loaded.result()
    raise StoppedEarlyError("stopped while models were loaded")


def end_at_once(engines: Path) -> NoReturn:
    """End this process while a thread of it still loads.

    Parameters
    ----------
    engines : Path
        Folder of exported networks: what the thread is writing there is removed.
    """
    from inference.engines.onnx_cache import OnnxCache

    sys.stdout.flush()
    sys.stderr.flush()
    OnnxCache(engines).discard()
    # The interpreter would wait for libraries whose threads are in the middle of something.
    os._exit(0)
