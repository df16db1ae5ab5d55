"""Processes that decode for all readers of a worker: bounded, fair, and safe from decoders.

Most decoders hold the interpreter for a whole image, so threads gain nothing; some crash or hang on
damaged codestreams. Values come back through memory that has no name (memfd): when parent and
children are gone, however that happened, so is it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from io import FileIO
from multiprocessing.connection import wait

import numpy as np
import structlog

from .decode_cost import is_worth_a_process, value_bytes
from .decode_process import START_SECONDS, DecodeProcess
from .decode_settings import PoolSettings
from .decode_share import Job, JobState, Outcome, Places, Stream, next_job
from .decode_task import Answer, Asked, DecodeTask, Larger, Refused, TaskDecoder, Values
from .errors import InferenceError, NotAnalysableError
from .pixels import ModalityImage
from .reading import NotAnalysed
from .scheduling.turn import current_turn, yield_to_stat

_log = structlog.get_logger()

# How late a process may be found to take too long.
_TICK_SECONDS = 0.5
# Ended by the system that is short of memory, or by a person: no fault of the image, which is
# decoded once more.
_BY_OTHERS = (-signal.SIGKILL, -signal.SIGTERM)
_CLOSED = "the decode processes were ended"

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
        self._streams: list[Stream] = []
        self._children: dict[DecodeProcess, tuple[Stream, Job] | None] = {}
        self._places = Places()
        self._given = self._stat_in_row = 0
        # A file, so that who still copies out of it when the pool is closed reads nothing else.
        self._memory: FileIO | None = None
        self._wake: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the decode processes."""
        with self._changed:
            return tuple(child.pid for child in self._children)

    @property
    def shared_bytes(self) -> int:
        """Size of the shared memory now."""
        with self._changed:
            return 0 if self._memory is None else os.fstat(self._memory.fileno()).st_size

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
            self._end(_CLOSED)

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(self, tasks: Iterable[DecodeTask]) -> Iterator[Decoded]:
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
            if stream not in self._streams:
                self._streams.append(stream)
            stream.jobs.append(job)
            self._give()
        return job

    def _result(self, stream: Stream, job: Job) -> Decoded:
        with self._changed:
            # Whoever waits for it must not wait for room that it needs itself.
            stream.awaited = job
            self._give()
            self._changed.wait_for(lambda: job.state is JobState.DONE)
        outcome = job.outcome
        if isinstance(outcome, ModalityImage):
            outcome = self._own(job, outcome)
        with self._changed:
            self._forget(stream, job)
            self._give()
        assert outcome is not None, "a job that is done"
        if isinstance(outcome, InferenceError) and not isinstance(outcome, NotAnalysableError):
            raise outcome
        return outcome

    def _own(self, job: Job, image: ModalityImage) -> Decoded:
        """Copy values out of the shared memory."""
        if (memory := self._memory) is None:
            raise InferenceError(_CLOSED)
        assert job.place is not None, "a decoded image lies somewhere"
        values = np.empty(job.shape, np.float32)
        view = values.reshape(-1).data.cast("B")
        done = 0
        while done < len(view):
            count = os.preadv(memory.fileno(), [view[done:]], job.place + done)
            if not count:
                raise InferenceError(_CLOSED)
            done += count
        return ModalityImage(values, image.notes, image.full_range)

    def _leave(self, stream: Stream) -> None:
        """Take back what nobody waits for; what runs goes to nobody."""
        with self._changed:
            stream.abandoned = True
            for job in tuple(stream.jobs):
                if job.state is not JobState.RUNNING:
                    self._forget(stream, job)
            self._give()

    # From here on the caller holds `_changed`.

    def _forget(self, stream: Stream, job: Job) -> None:
        stream.jobs.remove(job)
        self._take_place(job)
        if not stream.jobs and stream in self._streams:
            self._streams.remove(stream)

    def _take_place(self, job: Job) -> None:
        if job.place is None:
            return
        self._places.free(job.place)
        job.place = None
        budget, memory = self.settings.waiting_bytes, self._memory
        if memory is None or self._places.end > budget:
            return
        if os.fstat(memory.fileno()).st_size > budget:
            memory.truncate(budget)  # what single images took beyond it goes back to the system

    def _start(self) -> None:
        if not self.settings.processes:
            return
        if self._memory is None:
            self._memory = FileIO(os.memfd_create("preread-decode", os.MFD_CLOEXEC), "r+")
        if self._wake is None:
            self._wake = os.pipe()
        before = len(self._children)
        try:
            while len(self._children) < self.settings.processes:
                child = DecodeProcess(self._memory.fileno(), self.settings.memory_bytes)
                self._children[child] = None
        except OSError as error:
            raise InferenceError(f"a decode process cannot be started ({error})") from error
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._serve, name="decode", daemon=True, args=(self._wake[0],)
            )
            self._thread.start()
        elif len(self._children) > before:
            self._call()

    def _call(self) -> None:
        """Have the thread look at what is there now."""
        if self._wake is not None:
            os.write(self._wake[1], b"\0")

    def _end(self, reason: str) -> None:
        for child, has in tuple(self._children.items()):
            child.end()
            if has is not None:
                self._done(*has, InferenceError(reason))
        self._children.clear()
        self._fail(reason)
        if self._memory is not None:
            self._memory.truncate(0)
            self._memory = None
        if self._wake is not None:
            for descriptor in self._wake:
                os.close(descriptor)
            self._wake = None

    def _give(self) -> None:
        """Give images to the processes that are idle."""
        for child, has in tuple(self._children.items()):
            if has is not None or not child.is_ready:
                continue
            found = next_job(self._streams, self.settings.waiting_bytes, self._stat_in_row)
            if found is None:
                return
            stream, job = found
            self._stat_in_row = self._stat_in_row + 1 if stream.is_stat else 0
            job.place = self._places.take(job.size)
            try:
                child.ask(Asked(job.task, job.place, job.size), self.settings.timeout_seconds)
            except OSError:  # it ended while it was idle, which is no fault of this image
                self._take_place(job)
                child.is_ready = False  # the thread sees that it has ended
                continue
            job.state, self._children[child] = JobState.RUNNING, found
            self._given += 1
            stream.served = self._given

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
            known = {child.connection: child for child in self._children}
        there = wait([*known, wake], _TICK_SECONDS if known else None)
        if wake in there:
            os.read(wake, 64)
        with self._changed:
            for connection, child in known.items():
                if connection in there:
                    self._hear(child, child.answer())
            now = time.monotonic()
            for child, has in tuple(self._children.items()):
                if child.deadline < now and (has is not None or not child.is_ready):
                    self._overdue(child)
            self._give()
            self._changed.notify_all()

    def _hear(self, child: DecodeProcess, answer: Answer | None) -> None:
        has = self._children[child]
        if answer is None:
            self._ended(child)
        elif has is None:
            child.is_ready = child.has_started = True
        else:
            self._children[child] = None
            self._answered(*has, answer)

    def _answered(self, stream: Stream, job: Job, answer: Answer) -> None:
        if isinstance(answer, Larger):  # than its header says; it is decoded again, with room
            self._again(stream, job, answer.size)
        elif isinstance(answer, Refused):
            self._done(stream, job, NotAnalysableError(NotAnalysed(answer.code), answer.reason))
        elif isinstance(answer, Values):
            job.shape = answer.shape
            nothing = np.empty(0, np.float32)  # until they are copied out
            self._done(stream, job, ModalityImage(nothing, answer.notes, answer.full_range))

    def _again(self, stream: Stream, job: Job, size: int | None = None) -> None:
        self._take_place(job)
        job.size, job.state = size or job.size, JobState.WAITING
        if stream.abandoned:
            self._forget(stream, job)

    def _done(self, stream: Stream, job: Job, outcome: Outcome) -> None:
        job.outcome, job.state = outcome, JobState.DONE
        if stream.abandoned:
            self._forget(stream, job)

    def _ended(self, child: DecodeProcess) -> None:
        has = self._children.pop(child)
        status = child.end()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        if not child.has_started:
            self._not_started(f"a decode process does not start ({how})")
            return
        _log.warning("decode.process_ended", how=how, decoding=has is not None)
        if has is not None and status in _BY_OTHERS and not has[1].killed:
            has[1].killed = True
            self._again(*has)
        elif has is not None and status in _BY_OTHERS:
            # No word on the image to a PACS: what ends processes is the node's, and can be mended.
            said = f"the process that decodes was ended from outside ({how}), twice for one image"
            self._done(*has, InferenceError(f"{said}; is there too little memory?"))
        elif has is not None:
            self._done(*has, _refusal(f"the decoder ended its process ({how})"))
        self._replace()

    def _overdue(self, child: DecodeProcess) -> None:
        has = self._children.pop(child)
        child.end()
        if has is None:
            self._not_started(f"a decode process does not start in {START_SECONDS:g} s")
            return
        seconds = self.settings.timeout_seconds
        _log.warning("decode.timed_out", seconds=seconds)
        self._done(*has, _refusal(f"decoding takes longer than {seconds:g} s"))
        self._replace()

    def _replace(self) -> None:
        try:
            self._start()
        except InferenceError as error:
            self._not_started(str(error))

    def _not_started(self, reason: str) -> None:
        """Go on with the other processes; without any, tell everybody who waits."""
        _log.error("decode.not_started", reason=reason)
        if not self._children:
            self._fail(reason)

    def _fail(self, reason: str) -> None:
        for stream in tuple(self._streams):
            for job in tuple(stream.jobs):
                if job.state is JobState.WAITING:
                    self._done(stream, job, InferenceError(reason))
        self._changed.notify_all()


def _here(decoder: TaskDecoder, task: DecodeTask) -> Decoded:
    try:
        return decoder.decode(task)
    except NotAnalysableError as error:
        return error


def _refusal(reason: str) -> NotAnalysableError:
    return NotAnalysableError(NotAnalysed.UNDECODABLE, reason)
