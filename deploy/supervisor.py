"""Keeps the parts of a node running: one process each, started anew when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event

import structlog

from .errors import NodeError

_log = structlog.get_logger()

# A part that ends so at its first start has settings that cannot work, and so has the node. Once
# it has run, whatever it ends with is tried again: settings may be in the middle of an edit.
BAD_SETTINGS_STATUS = 2
_POLL_SECONDS = 0.2
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
# A part that ran for so long has earned a short wait again.
_STEADY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the node.

    Attributes
    ----------
    name : str
    command : sequence of str
    environment : mapping of str to str
        What it has beyond the environment of all.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartEnd:
    """A part that has ended and will be started again.

    Attributes
    ----------
    name : str
    pid : int
    status : int
        Below 0: by which signal it was killed.
    """

    name: str
    pid: int
    status: int


@dataclass(slots=True)
class _Child:
    part: Part
    process: subprocess.Popen[bytes]
    started: float
    # Before the next start; doubles while it dies early.
    wait: float = _FIRST_WAIT_SECONDS
    start_at: float | None = None
    is_first: bool = True


class Supervisor:
    """Runs parts until told to stop.

    Parameters
    ----------
    parts : sequence of Part
    environment : mapping
        Of the children.
    grace_seconds : float
        How long parts may take to end before they are killed.
    on_end : callable
        Told of a part that has ended and will be started again; it must not wait.
    at_once : collection of int
        Exit statuses of a part that ended in order to be started anew: it does not wait for that.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        environment: Mapping[str, str],
        grace_seconds: float,
        on_end: Callable[[PartEnd], None] = lambda end: None,
        at_once: Collection[int] = (),
    ) -> None:
        self._on_end = on_end
        self._at_once = frozenset(at_once)
        self._environment = dict(environment)
        self._grace = grace_seconds
        self._parts = parts
        self._children: list[_Child] = []

    def run(self, stop: Event) -> None:
        """Start the parts, watch them until `stop` is set, then end them.

        Raises
        ------
        NodeError
            If a part ends because of its settings when it is first started.
        """
        try:
            for part in self._parts:
                self._children.append(_Child(part, self._start(part), time.monotonic()))
            while not stop.wait(_POLL_SECONDS):
                for child in self._children:
                    self._look_after(child)
        finally:
            self._end()

    def _start(self, part: Part) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C reaches the supervisor alone, which ends parts in order.
        process = subprocess.Popen(  # noqa: S603 - our own program
            part.command, env=self._environment | dict(part.environment), start_new_session=True
        )
        _log.info("part.started", name=part.name, pid=process.pid)
        return process

    def _look_after(self, child: _Child) -> None:
        status = child.process.poll()
        if status is None:
            return
        now = time.monotonic()
        if child.start_at is None:
            if status == BAD_SETTINGS_STATUS and child.is_first:
                raise NodeError(f"{child.part.name} cannot start; its message stands above")
            wait = self._wait_of(child, status, now)
            child.start_at = now + wait
            _log.warning("part.ended", name=child.part.name, status=status, again_in_seconds=wait)
            self._tell(PartEnd(child.part.name, child.process.pid, status))
        elif now >= child.start_at:
            self._start_again(child, now)

    def _start_again(self, child: _Child, now: float) -> None:
        try:
            child.process = self._start(child.part)
        except OSError as error:
            # No memory or process is left for it: the other parts go on, and it is tried again.
            child.start_at = now + _LONGEST_WAIT_SECONDS
            _log.error(
                "part.not_started", name=child.part.name, reason=error.strerror,
                again_in_seconds=_LONGEST_WAIT_SECONDS,
            )  # fmt: skip
            return
        child.started, child.start_at, child.is_first = now, None, False

    def _tell(self, end: PartEnd) -> None:
        try:
            self._on_end(end)
        except Exception as error:  # noqa: BLE001 - the node must not end because one part did
            _log.error("part.end_not_told", name=end.name, error=type(error).__name__)

    def _wait_of(self, child: _Child, status: int, now: float) -> float:
        """Return how long a part that has ended waits: longer each time that it dies early."""
        if status in self._at_once:
            return 0.0
        steady = now - child.started > _STEADY_SECONDS
        child.wait = _FIRST_WAIT_SECONDS if steady else min(child.wait * 2, _LONGEST_WAIT_SECONDS)
        return child.wait

    def _end(self) -> None:
        """End the parts in the order given: receiving first, so that nothing new comes."""
        deadline = time.monotonic() + self._grace
        running = [child for child in self._children if child.process.poll() is None]
        for child in running:
            child.process.send_signal(signal.SIGTERM)
        for child in running:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.error("part.killed", name=child.part.name, pid=child.process.pid)
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()
