"""Memory that a worker shares with its decode processes: it has no name, and so is never left.

When parent and children are gone, however that happened, so is it.
"""

from __future__ import annotations

import os
from io import FileIO

import numpy as np
from numpy.typing import NDArray

from .decode_share import Places
from .errors import InferenceError

CLOSED = "the decode processes were ended"


class DecodeMemory:
    """Where decode processes leave values until they are copied out.

    Without a lock but for `copied`: who calls has one.

    Parameters
    ----------
    budget : int
        Bytes that are kept; what single images take beyond them goes back to the system.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        # They outlast the file: what was taken before it was closed is given back later.
        self._places = Places()
        # A file, so that who still copies out of it when it is closed reads nothing else.
        self._file: FileIO | None = None

    @property
    def n_bytes(self) -> int:
        """Its size now."""
        return 0 if self._file is None else os.fstat(self._file.fileno()).st_size

    def open(self) -> int:
        """Return its file descriptor, for a process that writes into it."""
        if self._file is None:
            self._file = FileIO(os.memfd_create("preread-decode", os.MFD_CLOEXEC), "r+")
        return self._file.fileno()

    def close(self) -> None:
        """Give it back; it can be opened again."""
        if self._file is not None:
            self._file.truncate(0)
            self._file = None

    def take(self, size: int) -> int:
        """Return the offset of a place of so many bytes."""
        return self._places.take(size)

    def free(self, place: int) -> None:
        """Give a place back."""
        self._places.free(place)
        if self._places.end <= self._budget < self.n_bytes and self._file is not None:
            self._file.truncate(self._budget)

    def copied(self, place: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Copy values out; any thread that has the place.

        Raises
        ------
        InferenceError
            If it is closed meanwhile.
        """
        if (file := self._file) is None:
            raise InferenceError(CLOSED)
        values = np.empty(shape, np.float32)
        view = values.reshape(-1).data.cast("B")
        done = 0
        while done < len(view):
            count = os.preadv(file.fileno(), [view[done:]], place + done)
            if not count:
                raise InferenceError(CLOSED)
            done += count
        return values
