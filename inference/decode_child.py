"""The process that decodes: a decoder that crashes, hangs or eats memory takes nobody along.

Run by `decode_pool` alone: ``python -m inference.decode_child SOCKET MEMORY LIFELINE LIMIT``, file
descriptors all but the last, which is the bytes of its own memory.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import resource
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np

from .decode_task import Answer, Asked, Larger, Ready, Refused, TaskDecoder, Values
from .errors import NotAnalysableError
from .heap import keep_freed_memory
from .reading import NotAnalysed

_F_SETSIG = 10  # of fcntl(2), Linux
_KEPT_BYTES = 64 << 20


def main(arguments: list[str]) -> int:
    """Answer tasks until the other side is gone."""
    connection_fd, memory_fd, lifeline, limit = (int(one) for one in arguments)
    for request in (signal.SIGINT, signal.SIGTERM):  # the parent decides when to end
        signal.signal(request, signal.SIG_IGN)
    die_with(lifeline)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # patient data is in it
    keep_freed_memory(_KEPT_BYTES)
    decoder = TaskDecoder()
    with Connection(connection_fd) as connection, suppress(EOFError):
        connection.send_bytes(pickle.dumps(Ready()))
        while True:
            asked = pickle.loads(connection.recv_bytes())  # noqa: S301 - from the parent
            connection.send_bytes(pickle.dumps(_answer(decoder, asked, memory_fd)))
    return 0


def die_with(lifeline: int) -> None:
    """Have the kernel kill this process when the other end of a pipe is closed.

    A killed parent closes it, whatever this process is doing: a decoder that holds the interpreter
    for minutes included, which no thread of ours could end.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
    try:
        closed = os.read(lifeline, 1) == b""  # before the kernel was asked to watch
    except BlockingIOError:
        closed = False
    if closed:
        os._exit(0)


def _answer(decoder: TaskDecoder, asked: Asked, memory: int) -> Answer:
    try:
        image = decoder.decode(asked.task)
        if image.values.nbytes > asked.size:
            return Larger(image.values.nbytes)
        values = np.ascontiguousarray(image.values, np.float32)
        _put(values.reshape(-1).data.cast("B"), memory, asked.offset)
    except NotAnalysableError as error:
        return Refused(str(error.code), error.reason)
    except MemoryError:
        reason = "decoding needs more memory than a decode process may have"
        return Refused(NotAnalysed.UNDECODABLE, reason)
    except BaseException as error:  # noqa: BLE001 - the boundary of the process; told to the parent
        reason = f"decoding failed ({type(error).__name__})"
        return Refused(NotAnalysed.UNDECODABLE, reason)
    return Values(image.values.shape, image.notes, image.full_range)


def _put(values: memoryview, memory: int, offset: int) -> None:
    while values:
        done = os.pwrite(memory, values, offset)
        values, offset = values[done:], offset + done


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
