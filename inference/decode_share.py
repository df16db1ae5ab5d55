"""Who is decoded for next, and where in shared memory: streams of images that share processes.

No process, no thread and no clock is in here.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from .decode_task import DecodeTask
from .errors import InferenceError, NotAnalysableError
from .pixels import ModalityImage
from .scheduling.choice import STAT_PER_ROUTINE
from .scheduling.turn import Turn

_PAGE = 4096

Outcome = ModalityImage | NotAnalysableError | InferenceError


class JobState(Enum):
    """How far an image is."""

    WAITING = auto()
    RUNNING = auto()
    DONE = auto()


@dataclass(slots=True, eq=False)
class Job:
    """An image on its way through a process.

    Attributes
    ----------
    size : int
        Bytes of its values, as far as they are known.
    place : int or None
        Where in the shared memory it has room for them.
    outcome : ModalityImage, NotAnalysableError, InferenceError or None
        What became of it; the values of an image are still in the shared memory.
    shape : tuple of int
        Of the values.
    killed : bool
        Somebody else ended the process that decoded it.
    """

    task: DecodeTask
    size: int
    state: JobState = JobState.WAITING
    place: int | None = None
    outcome: Outcome | None = None
    shape: tuple[int, ...] = ()
    killed: bool = False


@dataclass(slots=True, eq=False)
class Stream:
    """The images that one thread waits for, in the order in which it takes them.

    Attributes
    ----------
    served : int
        When it was given a process last, counted in jobs of all streams.
    abandoned : bool
        Nobody takes its images any more.
    turn : Turn or None
        The analysis that it is for.
    awaited : Job or None
        The image that the thread waits for, or waited for last.
    """

    jobs: deque[Job] = field(default_factory=deque)
    served: int = 0
    abandoned: bool = False
    turn: Turn | None = None
    awaited: Job | None = None

    @property
    def is_stat(self) -> bool:
        """Whether the analysis is."""
        return self.turn is not None and self.turn.is_stat

    @property
    def running(self) -> int:
        """Images that are being decoded."""
        return sum(job.state is JobState.RUNNING for job in self.jobs)

    @property
    def held(self) -> int:
        """Bytes of shared memory that it has."""
        return sum(job.size for job in self.jobs if job.place is not None)

    @property
    def first_waiting(self) -> Job | None:
        """The next image that no process has, and may have.

        While STAT is under way nothing is decoded ahead for others: only what a thread waits for,
        which was let go on before it began to wait.
        """
        if self.turn is not None and self.turn.gives_way():
            job = self.awaited
            return job if job is not None and job.state is JobState.WAITING else None
        return next((job for job in self.jobs if job.state is JobState.WAITING), None)


class Places:
    """Which parts of the shared memory are taken."""

    def __init__(self) -> None:
        self._taken: list[tuple[int, int]] = []

    @property
    def end(self) -> int:
        """The first byte beyond all that is taken."""
        return max((offset + size for offset, size in self._taken), default=0)

    def take(self, size: int) -> int:
        """Return the lowest offset at which so many bytes are free, and take them."""
        size = -(-max(size, 1) // _PAGE) * _PAGE
        offset = 0
        for start, length in self._taken:
            if start - offset >= size:
                break
            offset = start + length
        insort(self._taken, (offset, size))
        return offset

    def free(self, offset: int) -> None:
        """Give back what was taken at an offset."""
        self._taken = [one for one in self._taken if one[0] != offset]


def next_job(
    streams: Iterable[Stream], budget: int, stat_in_row: int = 0
) -> tuple[Stream, Job] | None:
    """Return the image that the next free process decodes; None if there is no room for one.

    STAT goes first, but after `STAT_PER_ROUTINE` of its images in a row one of others does. Then
    the stream with the fewest processes is served first, of several the one that waited longest.
    The image that a thread takes next may always be decoded: so no stream waits for another one's
    thread to take what it has, whatever that thread waits for. Beyond that all streams have the
    same share of the budget.

    Parameters
    ----------
    streams : iterable of Stream
    budget : int
        Bytes.
    stat_in_row : int
        Images that were given to processes for STAT since the last one that was not.
    """
    known = [one for one in streams if one.jobs]
    used = sum(one.held for one in known)
    stat_first = stat_in_row < STAT_PER_ROUTINE
    for stream in sorted(
        known, key=lambda one: (one.is_stat is not stat_first, one.running, one.served)
    ):
        job = stream.first_waiting
        if job is None:
            continue
        in_budget = used + job.size <= budget and stream.held + job.size <= budget // len(known)
        if in_budget or job is stream.jobs[0]:
            return stream, job
    return None
