"""When the decode processes of a worker are started."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from inference import InferenceError
from inference.decode_pool import DecodePool
from inference.decode_settings import usable_cores

_log = structlog.get_logger()

# What a worker takes to start, besides.
_OWN_CORES = 2
# From when it is ready: by then it has read a film that waited for it.
_LATER_SECONDS = 1.0


def start_early(decoding: DecodePool) -> None:
    """Start the processes of a worker that has yet to start, where there are cores for them.

    Importing what decodes takes each of them half a second of CPU: on few cores the worker would
    start later by that, and so would its first result.
    """
    if usable_cores() - decoding.settings.processes >= _OWN_CORES:
        decoding.start()


@contextmanager
def started_by_and_by(decoding: DecodePool) -> Iterator[None]:
    """Start those that do not run yet, unless an image needs them before."""
    later = threading.Timer(_LATER_SECONDS, _start, (decoding,))
    later.daemon = True
    later.start()
    try:
        yield
    finally:
        later.cancel()
        later.join()  # no process is started in a pool that is closed


def _start(decoding: DecodePool) -> None:
    try:
        decoding.start()
    except InferenceError as error:  # told again to the analysis that needs one
        _log.error("decode.not_started", reason=str(error))
