"""What engines have in common that run an exported network, whatever library does it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .engine import EngineIdentity, RawOutputs, Rows, on_host
from .errors import EngineError, EngineOutOfMemoryError, EngineRunError
from .said import said

# Measured on CPUs: a row costs least in batches of 1 to 4, and the more rows the more memory.
CPU_BATCH = 4
# As the libraries say it, of which none has an exception of its own for it.
_NO_MEMORY = (
    "failed to allocate", "bad_alloc", "bad allocation", "out of memory", "not enough memory",
)  # fmt: skip


def cpu_threads(asked: int) -> int:
    """Return the threads for one batch; 0 asks for one for each core that the process may use."""
    return asked or len(os.sched_getaffinity(0))


class ExportedEngine(ABC):
    """Runs an exported network; how, its library says.

    Parameters
    ----------
    identity : EngineIdentity
    class_maps : bool
        Whether the last output of the network are class maps.

    Attributes
    ----------
    library : str
        Its name, for people.
    raised : tuple of type
        All that may be raised when a network does not pass.
    """

    library: ClassVar[str]
    raised: ClassVar[tuple[type[Exception], ...]]

    def __init__(self, identity: EngineIdentity, *, class_maps: bool) -> None:
        self._identity = identity
        self._class_maps = class_maps

    @property
    def identity(self) -> EngineIdentity:
        """What it is."""
        return self._identity

    def run(self, rows: Rows) -> RawOutputs:
        """Carry the network out; see `Engine.run`."""
        given = on_host(rows)
        at_once = self._at_once(len(given))
        try:
            outputs = self._in_parts(given, at_once)
        except self.raised as error:
            raise self._typed(error) from error
        maps = outputs.pop() if self._class_maps else None
        return RawOutputs(tuple(outputs), maps, self._identity.made(at_once))

    def release(self) -> None:  # noqa: B027 - no engine has to
        """Do nothing: what the library holds is needed for the next batch."""

    def _in_parts(self, rows: NDArray[np.float32], at_once: int) -> list[NDArray[np.float32]]:
        if at_once >= len(rows):
            return self._outputs(rows)
        parts = [rows[at : at + at_once] for at in range(0, len(rows), at_once)]
        each = [self._outputs(part) for part in parts]
        if all(
            one.ndim and len(one) == len(part)
            for part, outputs in zip(parts, each, strict=True)
            for one in outputs
        ):
            return [np.concatenate(same) for same in zip(*each, strict=True)]
        # An output that has no row for each: whoever knows the bundle says so.
        return self._outputs(rows)

    @abstractmethod
    def _outputs(self, rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return each output of the network, in arrays of their own."""

    def _at_once(self, rows: int) -> int:
        """Return how many of so many rows the library is given at once."""
        return rows

    @classmethod
    def said_by(cls, error: Exception) -> str:
        """Return what an error of the library says, in one line."""
        return said((str(error).splitlines() or [""])[0], type(error).__name__)

    def _typed(self, error: Exception) -> EngineError:
        line = self.said_by(error)
        # Of a long message the middle is left out of it.
        whole = f"{error} {line}".lower()
        if isinstance(error, MemoryError) or any(mark in whole for mark in _NO_MEMORY):
            return EngineOutOfMemoryError(f"{self.library} has not enough memory: {line}")
        return EngineRunError(f"{self.library} cannot carry the network out: {line}")
