"""How long series were quiet, where the clock of the machine does not tell.

A clock is set when its machine has found out the time: it goes back, or forward. By one that went
back an image may come an hour later than now, and its series would be quiet in an hour. What tells
then is how long nothing was heard of it here. By one that went forward all series are quiet at
once, those too that are being sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from db.completeness import AheadSeries, DueSeries


class WentForward:
    """By how much the clock went forward lately: so much less was quiet what seems to have been.

    Parameters
    ----------
    longest : float
        For how many seconds steps are remembered.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        # Each step, and when it was seen.
        self._steps: list[tuple[float, float]] = []

    def note(self, step: float, seconds: float) -> None:
        """Take note of a step, at a time by a clock that nobody sets."""
        self._steps = [one for one in self._steps if seconds - one[1] < self._longest]
        self._steps.append((step, seconds))

    def within(self, last: float, seconds: float) -> float:
        """Return the sum of the steps of the last so many seconds.

        Steps before that do not matter: what was not heard since they were seen, was not heard for
        so long.
        """
        return sum(step for step, seen in self._steps if seconds - seen < last)


class HeardAhead:
    """What was heard of series whose last image bears a time that is still to come.

    Parameters
    ----------
    quiet_seconds : float
        How long another image of a series is waited for.
    open_association_seconds : float
        The same while an association is open that sent some of it.
    """

    def __init__(self, quiet_seconds: float, open_association_seconds: float) -> None:
        self._quiet = quiet_seconds
        self._open = open_association_seconds
        # By series the time that its last image bears, and when that was seen here first.
        self._since: dict[str, tuple[datetime, float]] = {}

    def __len__(self) -> int:
        """Return how many such series were seen last."""
        return len(self._since)

    def quiet(self, found: Sequence[AheadSeries], seconds: float) -> list[DueSeries]:
        """Return those of which nothing was heard for long enough.

        Parameters
        ----------
        found : sequence of AheadSeries
            All that there are.
        seconds : float
            Of a clock that nobody sets (`time.monotonic`).
        """
        before, self._since = self._since, {}
        due = []
        for one in found:
            series = one.series
            at, since = before.get(series.series_instance_uid, (None, seconds))
            if at != series.last_received_at:
                since = seconds
            self._since[series.series_instance_uid] = series.last_received_at, since
            enough = self._open if one.is_sent else self._quiet
            if seconds - since >= enough:
                due.append(series)
        return due
