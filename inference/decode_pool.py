"""Processes that decode for a reader: bounded, in order, and safe from what decoders do.

Most decoders hold the interpreter for a whole image, so threads gain nothing; some crash or hang on
damaged codestreams. Values come back through memory that has no name (memfd): when parent and
children are gone, however that happened, so is it.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np

from .decode_task import Answer, Asked, DecodeTask, Ready, Refused, TaskDecoder, Values
from .errors import InferenceError, NotAnalysableError
from .pixels import ModalityImage
from .reading import NotAnalysed

_MESSAGE_BYTES = 1 << 20
_START_SECONDS = 60.0
_ROOT = Path(__file__).resolve().parents[1]

Decoded = ModalityImage | NotAnalysableError


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How much a pool may use.

    Attributes
    ----------
    processes : int
        How many decode at once; 0 decodes in this process, without any of the safety.
    places : int
        Images that are decoded or wait to be taken, at most; shared memory is so many places.
    place_bytes : int
        Of float32 values; a larger image is decoded in this process. 64 MiB are 16 million pixels.
    memory_bytes : int
        What each process may have for itself.
    timeout_seconds : float
        An image that takes longer is refused, and its process ended.
    """

    processes: int = 0
    places: int = 4
    place_bytes: int = 64 << 20
    memory_bytes: int = 4 << 30
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.processes < 0 or self.places < 1 or self.place_bytes < 4:
            raise ValueError("a decode pool needs 0 or more processes, and a place for an image")


class _Child:
    """A decode process and what it is doing."""

    def __init__(self, memory: int, memory_bytes: int) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lifeline, self._lifeline = os.pipe()
        handed = (theirs.fileno(), memory, lifeline)
        arguments = [*map(str, handed), str(memory_bytes)]
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, this module
            [sys.executable, "-m", "inference.decode_child", *arguments],
            pass_fds=handed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        theirs.close()
        os.close(lifeline)
        self.job: _Job | None = None
        self.is_ready = False
        self.deadline = time.monotonic() + _START_SECONDS

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, job: _Job, asked: Asked, seconds: float) -> None:
        self.job, self.deadline = job, time.monotonic() + seconds
        self.socket.send(pickle.dumps(asked))

    def answer(self) -> Answer | None:
        """Return the answer that is there, None if the process has ended."""
        try:
            message = self.socket.recv(_MESSAGE_BYTES)
        except ConnectionError:
            return None
        return pickle.loads(message) if message else None  # noqa: S301 - from our own process

    def end(self) -> int:
        """End the process and return how it ended: below 0, by which signal."""
        self.socket.close()
        ended = self._process.poll()
        if ended is None:
            self._process.kill()
        status = self._process.wait()
        os.close(self._lifeline)
        return status if ended is None else ended


@dataclass(slots=True, eq=False)
class _Job:
    """A task on its way: where its values go, and what became of it."""

    task: DecodeTask
    place: int
    decoded: Decoded | None = None
    is_given: bool = False


class DecodePool:
    """Decodes the images of a reader, for one thread at a time.

    Processes start with the first task, or with `start`, and stay until `close`.

    Parameters
    ----------
    settings : PoolSettings
    """

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self._own = TaskDecoder()
        self._children: list[_Child] = []
        self._memory: mmap.mmap | None = None
        self._memory_fd = -1

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the decode processes."""
        return tuple(child.pid for child in self._children)

    def start(self) -> None:
        """Start what does not run, so that the first image need not wait for it."""
        if self.settings.processes and self._memory is None:
            size = self.settings.places * self._stride
            self._memory_fd = os.memfd_create("preread-decode", os.MFD_CLOEXEC)
            os.ftruncate(self._memory_fd, size)
            self._memory = mmap.mmap(self._memory_fd, size)
        while len(self._children) < self.settings.processes:
            self._children.append(_Child(self._memory_fd, self.settings.memory_bytes))

    def close(self) -> None:
        """End the processes; values that were given stay valid as long as somebody holds them."""
        while self._children:
            self._children.pop().end()
        if self._memory is not None:
            os.close(self._memory_fd)
            self._memory = None

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(self, tasks: Iterable[DecodeTask]) -> Iterator[Decoded]:
        """Decode, ahead of whoever takes the results.

        Parameters
        ----------
        tasks : iterable of DecodeTask
            Taken one by one, as there are places.

        Yields
        ------
        ModalityImage or NotAnalysableError
            Of each task, in their order. Values lie in shared memory and are overwritten once the
            next is asked for.

        Raises
        ------
        InferenceError
            If no decode process can be started.
        """
        if not self.settings.processes:
            for task in tasks:
                yield self._in_line(task)
            return
        self.start()
        waiting = iter(tasks)
        free = deque(range(self.settings.places))
        jobs: deque[_Job] = deque()
        try:
            while True:
                while free and (coming := next(waiting, None)) is not None:
                    jobs.append(_Job(coming, free.popleft()))
                if not jobs:
                    return
                self._give(jobs)
                if (decoded := jobs[0].decoded) is None:
                    self._take()
                    continue
                yield decoded
                del decoded
                free.append(jobs.popleft().place)
        finally:
            # Whoever stops early must not find old values in a place that is used again.
            while any(child.job is not None for child in self._children):
                self._take()

    @property
    def _stride(self) -> int:
        return -(-self.settings.place_bytes // mmap.PAGESIZE) * mmap.PAGESIZE

    def _in_line(self, task: DecodeTask) -> Decoded:
        try:
            return self._own.decode(task)
        except NotAnalysableError as error:
            return error

    def _give(self, jobs: Iterable[_Job]) -> None:
        """Give the first jobs that nobody has to those that are idle."""
        self.start()
        idle = [child for child in self._children if child.is_ready and child.job is None]
        for job in jobs:
            if not idle:
                return
            if job.is_given:
                continue
            child = idle.pop()
            asked = Asked(job.task, job.place * self._stride, self.settings.place_bytes)
            try:
                child.ask(job, asked, self.settings.timeout_seconds)
            except OSError:  # it ended while it was idle, which is no fault of this image
                child.job = None
                self._drop(child)
                continue
            job.is_given = True

    def _take(self) -> None:
        """Wait until a process answers, ends or takes too long."""
        busy = [child for child in self._children if child.job is not None or not child.is_ready]
        first = min((child.deadline for child in busy), default=time.monotonic())
        for there in wait([c.socket for c in busy], max(0.0, first - time.monotonic())):
            child = next(one for one in busy if one.socket is there)
            self._hear(child, child.answer())
        now = time.monotonic()
        for child in busy:
            if (
                child in self._children
                and child.deadline < now
                and (child.job or not child.is_ready)
            ):
                self._overdue(child)

    def _hear(self, child: _Child, answer: Answer | None) -> None:
        job = child.job
        if answer is None:
            status = self._drop(child)
            if job is None:
                raise InferenceError(f"a decode process does not start (exit status {status})")
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            job.decoded = _refusal(f"the decoder ended its process ({how})")
        elif job is None:
            child.is_ready = True
        else:
            child.job = None
            job.decoded = self._result(job, answer)

    def _result(self, job: _Job, answer: Answer) -> Decoded:
        if isinstance(answer, Refused):
            return NotAnalysableError(NotAnalysed(answer.code), answer.reason)
        if isinstance(answer, Ready):  # too large for its place
            return self._in_line(job.task)
        return self._values(job.place, answer)

    def _values(self, place: int, answer: Values) -> ModalityImage:
        assert self._memory is not None
        count = int(np.prod(answer.shape))
        values = np.frombuffer(self._memory, np.float32, count, place * self._stride)
        return ModalityImage(values.reshape(answer.shape), answer.notes, answer.full_range)

    def _overdue(self, child: _Child) -> None:
        job = child.job
        self._drop(child)
        if job is None:
            raise InferenceError(f"a decode process does not start in {_START_SECONDS:g} s")
        seconds = self.settings.timeout_seconds
        job.decoded = _refusal(f"decoding takes longer than {seconds:g} s")

    def _drop(self, child: _Child) -> int:
        """End a process, whose successor starts when there is something to do."""
        self._children.remove(child)
        return child.end()


def _refusal(reason: str) -> NotAnalysableError:
    return NotAnalysableError(NotAnalysed.UNDECODABLE, reason)
