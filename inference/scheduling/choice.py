"""Which batch is next. Pure: what waits, what was served, and the time are passed in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .lane import Lane
from .requests import Batch

# Routine work has a ninth of the device whatever STAT asks for: it goes on, and a STAT analysis
# takes an eighth longer at most. After so many STAT batches in a row, and where STAT analyses are
# under way and ask for nothing (they decode, or make a report), after as many times what a routine
# batch takes, counted from the last one, one routine batch is let in.
STAT_PER_ROUTINE = 8
# What a routine batch is thought to take before there was one.
_UNKNOWN_SECONDS = 0.05


@dataclass(slots=True)
class Course:
    """What was computed lately.

    Attributes
    ----------
    stat_in_row : int
        STAT batches that routine rows have waited for, since the last one with a routine row.
    routine_seconds : float
        What the last routine batch took.
    held_since : float
        When the last batch with a routine row ended, or the first of the STAT analyses under way
        began after it.
    """

    stat_in_row: int = 0
    routine_seconds: float = _UNKNOWN_SECONDS
    held_since: float = 0.0

    def note(self, batch: Batch, seconds: float, now: float, routine_waits: bool) -> None:
        """Take note of a batch that has ended, and whether routine rows wait."""
        alone = all(turn.is_stat for turn in batch.turns)
        self.stat_in_row = self.stat_in_row + 1 if alone and routine_waits else 0
        if not batch.is_stat:
            self.routine_seconds = seconds
        if not alone:
            self.held_since = now


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do next: compute a batch, or else ask again.

    Attributes
    ----------
    batch, lane
        None if there is none yet.
    again : float or None
        In how many seconds, if nothing comes before; None: when something comes.
    """

    batch: Batch | None = None
    lane: Lane | None = None
    again: float | None = None


def choose(
    lanes: Iterable[Lane], course: Course, *, stat_under_way: bool, wait_seconds: float, now: float
) -> Choice:
    """Return what to do.

    Parameters
    ----------
    lanes : iterable of Lane
        By model.
    course : Course
    stat_under_way : bool
        Whether a STAT analysis is, also while it asks for nothing.
    wait_seconds : float
        How long a routine batch may wait, from the arrival of its first row, for rows that fill
        it. STAT does not wait, and nothing waits for rows that cannot come.
    now : float
        Monotonic seconds, as of all times here.
    """
    waiting = [lane for lane in lanes if lane.requests]
    stat = [lane for lane in waiting if lane.waits(stat=True)]
    routine = [lane for lane in waiting if lane.waits(stat=False)]
    if stat and (not routine or course.stat_in_row < STAT_PER_ROUTINE):
        lane = min(stat, key=lambda one: one.served)
        return Choice(lane.compose(stat=True), lane)
    if not routine:
        return Choice()
    if stat_under_way and not stat:
        held = course.held_since + STAT_PER_ROUTINE * course.routine_seconds - now
        if held > 0:
            return Choice(again=held)
    return _fullest(routine, 0.0 if stat else wait_seconds, now)


def _fullest(lanes: Iterable[Lane], wait_seconds: float, now: float) -> Choice:
    """Return the batch of the least served model that need not wait for more rows."""
    again: float | None = None
    for lane in sorted(lanes, key=lambda one: one.served):
        batch = lane.compose(stat=False)
        first = min(piece.request.arrived for piece in batch.pieces)
        left = first + wait_seconds - now
        if left <= 0 or not lane.may_fill(batch):
            return Choice(batch, lane)
        again = left if again is None else min(again, left)
    return Choice(again=again)
