"""One decode process as its parent sees it: it is asked, it answers, it ends."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from .decode_task import Answer, Asked

# Importing what decodes takes a second; on a machine that does a lot else, more.
START_SECONDS = 60.0
_ROOT = Path(__file__).resolve().parents[1]


class DecodeProcess:
    """A child of this process that decodes one image at a time.

    Parameters
    ----------
    memory : int
        File descriptor of the memory that values are put into.
    memory_bytes : int
        What the process may have for itself.
    """

    def __init__(self, memory: int, memory_bytes: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # Held for as long as this process lives: its end is the child's, too.
        lifeline, self._lifeline = os.pipe()
        handed = (theirs.fileno(), memory, lifeline)
        arguments = [*map(str, handed), str(memory_bytes)]
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, this module
                [sys.executable, "-m", "inference.decode_child", *arguments],
                pass_fds=handed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            )
        except OSError:
            ours.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(lifeline)
        self.connection = Connection(ours.detach())
        self.is_ready = False
        self.has_started = False
        self.deadline = time.monotonic() + START_SECONDS

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, asked: Asked, seconds: float) -> None:
        """Give it a task, to be done within `seconds`.

        Raises
        ------
        OSError
            If it has ended.
        """
        self.deadline = time.monotonic() + seconds
        self.connection.send_bytes(pickle.dumps(asked))

    def answer(self) -> Answer | None:
        """Return the answer that is there, None if the process has ended."""
        try:
            message = self.connection.recv_bytes()
        except (EOFError, OSError):
            return None
        found: Answer = pickle.loads(message)  # noqa: S301 - from our own process
        return found

    def end(self) -> int:
        """End the process and return how it ended: below 0, by which signal."""
        self.connection.close()
        ended = self._process.poll()
        if ended is None:
            self._process.kill()
        status = self._process.wait()
        os.close(self._lifeline)
        return status if ended is None else ended
