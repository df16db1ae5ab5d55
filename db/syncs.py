"""Syncs of new files and their folders: one after the other, or both at once on a slow disk.

Where a file was synced, its folder mostly is as well (the journal holds both), and to ask for that
takes a tenth of a millisecond. A disk that needs milliseconds for each sync, across a network or
rotating, needs them twice; then another thread asks for the folder meanwhile.
"""

from __future__ import annotations

import itertools
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor

from .durable import sync_folder

# Beyond this a folder is worth handing over, which takes a tenth of it.
_SLOW_SECONDS = 0.001
# Of so many folders one is synced by itself, to see how long it takes now.
_PROBE_EVERY = 16
# Where the processor has too much to do, a sync takes long now and then on any disk, and another
# thread would be one more that waits. On a slow disk all do: what is known grows by doubling only.
_LEAST_SECONDS = 0.0001
_MOST_HELPERS = 32


class Syncs:
    """Syncs files on one disk; for any number of threads.

    Attributes
    ----------
    folder_seconds : float
        How long a folder takes at least, when it is synced after its file.
    """

    def __init__(self) -> None:
        self.folder_seconds = 0.0
        self._serial = itertools.count(1)
        self._helpers: ThreadPoolExecutor | None = None

    def file_and_folder(self, descriptor: int, folder: str) -> None:
        """Return when a file and the names in its folder are on disk.

        Raises
        ------
        OSError
            If either of them may not be.
        """
        is_slow = self.folder_seconds > _SLOW_SECONDS and next(self._serial) % _PROBE_EVERY
        helper = self._hand_over(folder) if is_slow else None
        if helper is None:
            self._one_by_one(descriptor, folder)
            return
        try:
            os.fsync(descriptor)
        finally:
            error = helper.exception()  # waited for in any case: nobody else would hear of it
        if error is not None:
            raise error

    def _one_by_one(self, descriptor: int, folder: str) -> None:
        os.fsync(descriptor)
        began = time.perf_counter()
        sync_folder(folder)
        took = time.perf_counter() - began
        self.folder_seconds = min(took, 2 * self.folder_seconds + _LEAST_SECONDS)

    def _hand_over(self, folder: str) -> Future[None] | None:
        """Let another thread sync a folder; None if there can be none."""
        if self._helpers is None:
            self._helpers = ThreadPoolExecutor(_MOST_HELPERS, thread_name_prefix="sync")
        try:
            return self._helpers.submit(sync_folder, folder)
        except RuntimeError:  # no more threads, or the process is about to end
            return None
