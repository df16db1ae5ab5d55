"""The process that decodes: a decoder that crashes, hangs or eats memory takes nobody along.

Run by `decode_pool` alone: ``python -m inference.decode_child SOCKET MEMORY LIFELINE LIMIT``, file
descriptors all but the last, which is the bytes of its own memory.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import resource
import signal
import socket
import sys

import numpy as np

from .decode_task import Answer, Asked, Ready, Refused, TaskDecoder, Values
from .errors import NotAnalysableError
from .heap import keep_freed_memory
from .reading import NotAnalysed

_F_SETSIG = 10  # of fcntl(2), Linux
_MESSAGE_BYTES = 1 << 20
_KEPT_BYTES = 64 << 20


def main(arguments: list[str]) -> int:
    """Answer tasks until the other side is gone."""
    connection_fd, memory_fd, lifeline, limit = (int(one) for one in arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    die_with(lifeline)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # patient data is in it
    keep_freed_memory(_KEPT_BYTES)
    memory = mmap.mmap(memory_fd, 0)
    decoder = TaskDecoder()
    with socket.socket(fileno=connection_fd) as connection:
        connection.send(pickle.dumps(Ready()))
        while message := connection.recv(_MESSAGE_BYTES):
            connection.send(pickle.dumps(_answer(decoder, pickle.loads(message), memory)))  # noqa: S301 - from the parent
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


def _answer(decoder: TaskDecoder, asked: Asked, memory: mmap.mmap) -> Answer:
    try:
        image = decoder.decode(asked.task)
    except NotAnalysableError as error:
        return Refused(str(error.code), error.reason)
    except MemoryError:
        reason = "decoding needs more memory than a decode process may have"
        return Refused(NotAnalysed.UNDECODABLE, reason)
    except Exception as error:  # noqa: BLE001 - the boundary of the process; told to the parent
        reason = f"decoding failed ({type(error).__name__})"
        return Refused(NotAnalysed.UNDECODABLE, reason)
    if image.values.nbytes > asked.size:
        return Ready()
    count = image.values.size
    place = np.frombuffer(memory, np.float32, count, asked.offset).reshape(image.values.shape)
    np.copyto(place, image.values)
    return Values(image.values.shape, image.notes, image.full_range)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
