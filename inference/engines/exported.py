"""What engines have in common that run an exported network, whatever library does it."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from .engine import MadeWith, RawOutputs
from .errors import EngineError, EngineOutOfMemoryError, EngineRunError

# Measured on CPUs: a row costs least in batches of 1 to 4, and the more rows the more memory.
CPU_BATCH = 4
# As the libraries say it, of which none has an exception of its own for it.
_NO_MEMORY = (
    "failed to allocate", "bad_alloc", "bad allocation", "out of memory", "not enough memory",
)  # fmt: skip


def cpu_threads(asked: int) -> int:
    """Return the threads for one batch; 0 asks for one for each core that the process may use."""
    return asked or len(os.sched_getaffinity(0))


def exported_outputs(
    given: list[NDArray[np.float32]], class_maps: bool, made_with: MadeWith
) -> RawOutputs:
    """Return what a library gave as raw outputs; the last are the class maps if it gives some."""
    if class_maps:
        return RawOutputs(tuple(given[:-1]), given[-1], made_with)
    return RawOutputs(tuple(given), None, made_with)


def typed_error(library: str, error: Exception, said: str) -> EngineError:
    """Return an error of a library as one of this room.

    Parameters
    ----------
    library : str
        Its name, for people.
    error : Exception
    said : str
        Its message, in one line.
    """
    # Of a long message `said` leaves out the middle.
    whole = f"{error} {said}".lower()
    if isinstance(error, MemoryError) or any(mark in whole for mark in _NO_MEMORY):
        return EngineOutOfMemoryError(f"{library} has not enough memory: {said}")
    return EngineRunError(f"{library} cannot carry the network out: {said}")
