"""Syncs of new files and their folders: one after the other, or both at once on a slow disk.

Where a file was synced, its folder mostly is as well (the journal holds both), and to ask for that
takes a tenth of a millisecond. A disk that needs milliseconds for each sync, across a network or
rotating, needs them twice; then another thread asks for the folder meanwhile.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from .durable import sync_folder
from .pace import Pace

# Of so many folders one is synced by itself, to see how long it takes now.
_PROBE_EVERY = 16
_MOST_HELPERS = 32


class Syncs:
    """Syncs files on one disk; for any number of threads.

    Attributes
    ----------
    pace : Pace
        Of folders that are synced after their file.
    """

    def __init__(self) -> None:
        self.pace = Pace()
        self._serial = itertools.count(1)
        self._folders: SimpleQueue[tuple[str, Future[None]]] = SimpleQueue()
        self._guard = threading.Lock()
        self._n_helpers = self._n_idle = 0

    def file_and_folder(self, descriptor: int, folder: str) -> None:
        """Return when a file and the names in its folder are on disk.

        Raises
        ------
        OSError
            If either of them may not be.
        """
        is_slow = self.pace.is_slow and next(self._serial) % _PROBE_EVERY
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
        self.pace.learn(time.perf_counter() - began)

    def _hand_over(self, folder: str) -> Future[None] | None:
        """Let another thread sync a folder; None if there is none."""
        done: Future[None] = Future()
        with self._guard:
            if self._n_idle:
                self._n_idle -= 1
            elif not self._start_helper():
                return None
        self._folders.put((folder, done))
        return done

    def _start_helper(self) -> bool:
        if self._n_helpers == _MOST_HELPERS:
            return False
        try:
            # A daemon: where a disk hangs for good the process must end all the same.
            threading.Thread(target=self._help, name="sync", daemon=True).start()
        except RuntimeError:  # no more threads
            return False
        self._n_helpers += 1
        return True

    def _help(self) -> None:
        # So that whoever lists the threads of the process sees what this one is.
        with suppress(OSError):
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("sync")
        while True:
            folder, done = self._folders.get()
            try:
                sync_folder(folder)
            except BaseException as error:  # noqa: BLE001 - thread boundary: raised by who waits
                done.set_exception(error)
            else:
                done.set_result(None)
            with self._guard:
                self._n_idle += 1
