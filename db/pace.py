"""How long the syncs of a disk take, to tell a slow disk from a busy processor."""

from __future__ import annotations

# Beyond this a sync takes long enough for another thread to do something meanwhile.
SLOW_SECONDS = 0.001
_LEAST_SECONDS = 0.0001


class Pace:
    """What syncs take at least; any thread may use it.

    Where the processor has too much to do, a sync takes long now and then on any disk, and another
    thread would be one more that waits. On a slow disk all do: what is known grows by doubling
    only.

    Attributes
    ----------
    seconds : float
        How long a sync takes at least.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    @property
    def is_slow(self) -> bool:
        """Whether syncs are worth overlapping."""
        return self.seconds > SLOW_SECONDS

    def learn(self, seconds: float) -> None:
        """Take note of how long a sync took."""
        self.seconds = min(seconds, 2 * self.seconds + _LEAST_SECONDS)
