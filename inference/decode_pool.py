"""Processes that decode for all readers of a worker: bounded, fair, and safe from decoders.

Most decoders hold the interpreter for a whole image, so threads gain nothing; some crash or hang on
damaged codestreams. Values come back through shared memory.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable
from multiprocessing.connection import wait

import structlog

from .decode_cost import is_worth_a_process, value_bytes
from .decode_dispatch import Dispatcher
from .decode_memory import CLOSED
from .decode_settings import PoolSettings
from .decode_share import Job, JobState, Stream
from .decode_task import DecodeTask, TaskDecoder
from .errors import InferenceError, NotAnalysableError
from .pixels import ModalityImage
from .scheduling.turn import current_turn, yield_to_stat

_log = structlog.get_logger()

# How late a process may be found to take too long.
_TICK_SECONDS = 0.5

Decoded = ModalityImage | NotAnalysableError


class DecodePool:
    """Decodes images for any number of threads.

    Processes start with `start`, or with the first image, and stay until `close`. One that dies is
    replaced at once.

    Parameters
    ----------
    settings : PoolSettings
    """

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self._changed = threading.Condition()
        self._dispatcher = Dispatcher(settings)
        self._wake: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the decode processes."""
        with self._changed:
            return tuple(child.pid for child in self._dispatcher.processes)

    @property
    def shared_bytes(self) -> int:
        """Size of the shared memory now."""
        with self._changed:
            return self._dispatcher.memory.n_bytes

    def start(self) -> None:
        """Start the processes, without waiting for them.

        Raises
        ------
        InferenceError
            If the system starts no more processes.
        """
        with self._changed:
            self._start()

    def close(self) -> None:
        """End the processes; who still waits for an image is told so."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._call()
        if thread is not None:
            thread.join()
        with self._changed:
            self._end(CLOSED)

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(self, tasks: Iterable[DecodeTask]) -> Generator[Decoded, None, None]:
        """Decode, ahead of whoever takes the results.

        What is read by its offset in the file, without any decoder, is read here; see
        `decode_cost`.

        Parameters
        ----------
        tasks : iterable of DecodeTask
            Taken a few at a time, by the thread that takes the results.

        Yields
        ------
        ModalityImage or NotAnalysableError
            Of each task, in their order. Values are the caller's own.

        Raises
        ------
        InferenceError
            If no decode process can be started, or the pool was closed.
        """
        here, stream = TaskDecoder(), Stream(turn=current_turn())
        coming, ahead = iter(tasks), deque[DecodeTask | Job]()
        try:
            while True:
                while len(ahead) < self.settings.ahead:
                    if (task := next(coming, None)) is None:
                        break
                    ahead.append(self._begin(stream, task))
                if not ahead:
                    return
                first = ahead.popleft()
                yield_to_stat()
                yield self._result(stream, first) if isinstance(first, Job) else _here(here, first)
        finally:
            self._leave(stream)

    def _begin(self, stream: Stream, task: DecodeTask) -> DecodeTask | Job:
        """Give an image to the processes, if that is worth it."""
        if not self.settings.processes or not is_worth_a_process(task):
            return task
        job = Job(task, value_bytes(task))
        with self._changed:
            self._start()
            self._dispatcher.add(stream, job)
        return job

    def _result(self, stream: Stream, job: Job) -> Decoded:
        with self._changed:
            # Whoever waits for it must not wait for room that it needs itself.
            stream.awaited = job
            self._dispatcher.give()
            self._changed.wait_for(lambda: job.state is JobState.DONE)
        outcome = job.outcome
        if isinstance(outcome, ModalityImage):
            outcome = self._own(job, outcome)
        with self._changed:
            self._dispatcher.forget(stream, job)
            self._dispatcher.give()
        assert outcome is not None, "a job that is done"
        if isinstance(outcome, InferenceError) and not isinstance(outcome, NotAnalysableError):
            raise outcome
        return outcome

    def _own(self, job: Job, image: ModalityImage) -> ModalityImage:
        """Copy values out of the shared memory, without the lock."""
        assert job.place is not None, "a decoded image lies somewhere"
        values = self._dispatcher.memory.copied(job.place, job.shape)
        return ModalityImage(values, image.notes, image.full_range)

    def _leave(self, stream: Stream) -> None:
        with self._changed:
            self._dispatcher.leave(stream)

    # `_start`, `_call` and `_end` are called by who holds `_changed`.

    def _start(self) -> None:
        if not self.settings.processes:
            return
        if self._wake is None:
            self._wake = os.pipe()
        are_new = self._dispatcher.start()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._serve, name="decode", daemon=True, args=(self._wake[0],)
            )
            self._thread.start()
        elif are_new:
            self._call()

    def _call(self) -> None:
        """Have the thread look at what is there now."""
        if self._wake is not None:
            os.write(self._wake[1], b"\0")

    def _end(self, reason: str) -> None:
        self._dispatcher.end(reason)
        self._changed.notify_all()
        if self._wake is not None:
            for descriptor in self._wake:
                os.close(descriptor)
            self._wake = None

    def _serve(self, wake: int) -> None:
        """Hear what the processes say until the pool is closed."""
        try:
            while self._thread is threading.current_thread():
                self._turn(wake)
        except Exception as error:  # noqa: BLE001 - the boundary of the thread; told to all who wait
            _log.error("decode.failed", error=type(error).__name__)
            with self._changed:
                self._thread = None
                self._end(f"the decode processes cannot be used ({type(error).__name__})")

    def _turn(self, wake: int) -> None:
        with self._changed:
            known = {child.connection: child for child in self._dispatcher.processes}
        there = wait([*known, wake], _TICK_SECONDS if known else None)
        if wake in there:
            os.read(wake, 64)
        with self._changed:
            for connection, child in known.items():
                if connection in there:
                    self._dispatcher.hear(child)
            self._dispatcher.end_overdue()
            self._dispatcher.give()
            self._changed.notify_all()


def _here(decoder: TaskDecoder, task: DecodeTask) -> Decoded:
    try:
        return decoder.decode(task)
    except NotAnalysableError as error:
        return error
