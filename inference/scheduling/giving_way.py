"""Routine analyses make way for STAT between their steps, whatever a step is.

The device is not all that analyses share: they decode, make pictures, reports and files on the same
cores and under one interpreter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .choice import STAT_PER_ROUTINE
from .turn import Turn

# What STAT analyses have to themselves from the first of them on: a film is read in that time.
_ALONE_SECONDS = 1.0
# How often an analysis that waits says so: whoever looks for one that is stuck must know in time.
_TOLD_SECONDS = 1.0


class GivingWay:
    """Lets routine analyses go on one at a time, a step and then a pause, while STAT is under way.

    A step is what lies between two pauses. After it all of them wait for `STAT_PER_ROUTINE` times
    what it took, so that together they have a ninth of the time. What an analysis waits for at the
    device is no part of a step: there the batches are chosen.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._stat = 0
        # In the order in which they came; of each analysis several threads may wait.
        self._waiting: list[object] = []
        # Who takes a step, and since when.
        self._step: tuple[Turn, float] | None = None
        self._next_at = 0.0
        self._is_over = False

    @property
    def is_asked(self) -> bool:
        """Whether STAT analyses are under way."""
        return self._stat > 0 and not self._is_over

    @property
    def may_begin(self) -> bool:
        """Whether a routine analysis that comes now could take its first step at once."""
        with self._changed:
            is_free = self._step is None and not self._waiting and self._clock() >= self._next_at
            return is_free or not self.is_asked

    @contextmanager
    def stat(self) -> Iterator[None]:
        """Carry out a STAT analysis for the duration of the block."""
        with self._changed:
            if not self._stat:
                self._next_at = self._clock() + _ALONE_SECONDS
            self._stat += 1
        try:
            yield
        finally:
            with self._changed:
                self._stat -= 1
                if not self._stat:
                    self._step = None
                self._changed.notify_all()

    def pause(self, turn: Turn) -> None:
        """Block a routine analysis, between two steps, until it may take the next.

        Whoever calls must hold nothing that others wait for, no transaction above all.
        """
        if turn.is_stat or not self.is_asked:
            return
        ticket = object()
        with self._changed:
            self._end_step(turn)
            self._waiting.append(ticket)
        try:
            while (seconds := self._waited(turn, ticket)) is not None:
                turn.waited(seconds)
        finally:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def rest(self, turn: Turn) -> None:
        """End the step of an analysis, if it takes one: it has ended, or waits for the device."""
        if self._step is not None:
            with self._changed:
                self._end_step(turn)

    def end(self) -> None:
        """Let everybody go on from now on: the process ends, and they are to come to their end."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _waited(self, turn: Turn, ticket: object) -> float | None:
        """Wait a while and return how long; None if the analysis may go on."""
        with self._changed:
            now = self._clock()
            is_next = self._step is None and self._waiting[0] is ticket
            left = self._next_at - now if is_next else _TOLD_SECONDS
            if is_next and left <= 0 and self.is_asked:
                self._step = (turn, now)
            if not self.is_asked or left <= 0:
                return None
            self._changed.wait(min(left, _TOLD_SECONDS))
            return self._clock() - now

    def _end_step(self, turn: Turn) -> None:
        if self._step is not None and self._step[0] is turn:
            now = self._clock()
            self._next_at = now + STAT_PER_ROUTINE * (now - self._step[1])
            self._step = None
            self._changed.notify_all()
