"""Which decode process has which image, and what becomes of both: a process that dies is replaced.

No lock, no thread: the pool has them.
"""

from __future__ import annotations

import signal
import time

import numpy as np
import structlog

from .decode_memory import DecodeMemory
from .decode_process import START_SECONDS, DecodeProcess
from .decode_settings import PoolSettings
from .decode_share import Job, JobState, Outcome, Stream, next_job
from .decode_task import Answer, Asked, Larger, Refused, Values
from .errors import InferenceError, NotAnalysableError
from .pixels import ModalityImage
from .reading import NotAnalysed

_log = structlog.get_logger()

# Ended by the system that is short of memory, or by a person: no fault of the image, which is
# decoded once more.
_BY_OTHERS = (-signal.SIGKILL, -signal.SIGTERM)


class Dispatcher:
    """Gives images to processes, and hears what they say.

    Parameters
    ----------
    settings : PoolSettings
    """

    def __init__(self, settings: PoolSettings) -> None:
        self.memory = DecodeMemory(settings.waiting_bytes)
        self._settings = settings
        self._streams: list[Stream] = []
        self._children: dict[DecodeProcess, tuple[Stream, Job] | None] = {}
        self._given = self._stat_in_row = 0

    @property
    def processes(self) -> tuple[DecodeProcess, ...]:
        """Those that live, as far as is known."""
        return tuple(self._children)

    def start(self) -> bool:
        """Start the processes that are missing; tell whether there were such.

        Raises
        ------
        InferenceError
            If the system starts no more processes.
        """
        before = len(self._children)
        memory = self.memory.open()
        try:
            while len(self._children) < self._settings.processes:
                self._children[DecodeProcess(memory, self._settings.memory_bytes)] = None
        except OSError as error:
            raise InferenceError(f"a decode process cannot be started ({error})") from error
        return len(self._children) > before

    def end(self, reason: str) -> None:
        """End the processes; all images that are not decoded fail for this reason."""
        for child, has in tuple(self._children.items()):
            child.end()
            if has is not None:
                self._done(*has, InferenceError(reason))
        self._children.clear()
        self._fail(reason)
        self.memory.close()

    def add(self, stream: Stream, job: Job) -> None:
        """Take an image of a stream."""
        if stream not in self._streams:
            self._streams.append(stream)
        stream.jobs.append(job)
        self.give()

    def forget(self, stream: Stream, job: Job) -> None:
        """Drop an image; what place it has is free."""
        stream.jobs.remove(job)
        self._take_place(job)
        if not stream.jobs and stream in self._streams:
            self._streams.remove(stream)

    def leave(self, stream: Stream) -> None:
        """Take back what nobody waits for; what runs goes to nobody."""
        stream.abandoned = True
        for job in tuple(stream.jobs):
            if job.state is not JobState.RUNNING:
                self.forget(stream, job)
        self.give()

    def give(self) -> None:
        """Give images to the processes that are idle."""
        for child, has in tuple(self._children.items()):
            if has is not None or not child.is_ready:
                continue
            found = next_job(self._streams, self._settings.waiting_bytes, self._stat_in_row)
            if found is None:
                return
            stream, job = found
            self._stat_in_row = self._stat_in_row + 1 if stream.is_stat else 0
            job.place = self.memory.take(job.size)
            try:
                child.ask(Asked(job.task, job.place, job.size), self._settings.timeout_seconds)
            except OSError:  # it ended while it was idle, which is no fault of this image
                self._take_place(job)
                child.is_ready = False  # its connection tells that it has ended
                continue
            job.state, self._children[child] = JobState.RUNNING, found
            self._given += 1
            stream.served = self._given

    def hear(self, child: DecodeProcess) -> None:
        """Take what a process says, or that it has ended."""
        answer, has = child.answer(), self._children[child]
        if answer is None:
            self._ended(child)
        elif has is None:
            child.is_ready = child.has_started = True
        else:
            self._children[child] = None
            self._answered(*has, answer)

    def end_overdue(self) -> None:
        """End the processes that take too long."""
        now = time.monotonic()
        for child, has in tuple(self._children.items()):
            if child.deadline < now and (has is not None or not child.is_ready):
                self._overdue(child)

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
            self.forget(stream, job)

    def _done(self, stream: Stream, job: Job, outcome: Outcome) -> None:
        job.outcome, job.state = outcome, JobState.DONE
        if stream.abandoned:
            self.forget(stream, job)

    def _take_place(self, job: Job) -> None:
        if job.place is not None:
            self.memory.free(job.place)
            job.place = None

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
        seconds = self._settings.timeout_seconds
        _log.warning("decode.timed_out", seconds=seconds)
        self._done(*has, _refusal(f"decoding takes longer than {seconds:g} s"))
        self._replace()

    def _replace(self) -> None:
        try:
            self.start()
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


def _refusal(reason: str) -> NotAnalysableError:
    return NotAnalysableError(NotAnalysed.UNDECODABLE, reason)
