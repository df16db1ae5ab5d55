"""SHA-256 of an image while it is written: by the thread that writes it, or beside it.

A digest takes about as long as receiving and writing together. Where one association has the
machine to itself, another thread computes it while the disk writes and syncs. Several associations
keep the processor busy anyway, and then a second thread is only in the way.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from .errors import DatabaseError


class Digest:
    """The SHA-256 of the bytes that it is given.

    Attributes
    ----------
    error : BaseException or None
        Why it is not one of all bytes.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.error: BaseException | None = None

    def add(self, parts: Sequence[memoryview]) -> None:
        """Take the next bytes."""
        for part in parts:
            self._hash.update(part)

    def hexdigest(self) -> str:
        """Return the digest of everything; raise `DatabaseError` if it could not be computed."""
        if self.error is not None:
            raise DatabaseError(f"no digest ({type(self.error).__name__})") from self.error
        return self._hash.hexdigest()

    def close(self) -> None:
        """Let go of the memory of all bytes."""


@dataclass(slots=True)
class _Job:
    digest: Digest
    parts: Sequence[memoryview]
    done: threading.Lock  # held until the job is done


class DigestHelper:
    """A thread that computes the digests of images that come one at a time.

    Attributes
    ----------
    is_useful : bool
        Whether there is a second processor.
    """

    def __init__(self) -> None:
        self.is_useful = _n_processors() > 1
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, job: _Job) -> None:
        """Have a job done after all earlier ones; a RuntimeError if no thread can be started."""
        if self._thread is None:
            with self._guard:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="digest", daemon=True)
                    thread.start()
                    self._thread = thread
        self._jobs.put(job)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job.digest.add(job.parts)
            except BaseException as error:  # noqa: BLE001 - thread boundary: who waits is told
                job.digest.error = error
            finally:
                job.parts = ()
                job.done.release()
            del job  # or the last image would stay in memory until the next one comes


class AssistedDigest(Digest):
    """A digest that a helper goes on with.

    Parameters
    ----------
    begun : Digest
        What was computed so far; used by nobody else from now on.
    helper : DigestHelper
    """

    def __init__(self, begun: Digest, helper: DigestHelper) -> None:
        super().__init__()
        self._begun = begun
        self._helper = helper
        self._done = threading.Lock()

    def add(self, parts: Sequence[memoryview]) -> None:
        """Take the next bytes; their memory is in use until the next `add` or `close` returns."""
        self.close()
        self._done.acquire()
        try:
            self._helper.put(_Job(self._begun, parts, self._done))
        except RuntimeError:  # no more threads: nobody may wait for one
            self._done.release()
            self._begun.add(parts)

    def hexdigest(self) -> str:
        """Return the digest of everything, as soon as the helper has got so far."""
        self.close()
        return self._begun.hexdigest()

    def close(self) -> None:
        """Wait until the helper has let go of all memory."""
        with self._done:
            pass


def _n_processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
