"""An analysis that is under way: who asks for rows to be computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

_CURRENT: ContextVar[Turn | None] = ContextVar("preread_turn", default=None)


def _heed_nothing(_seconds: float) -> None:
    pass


def _go_on() -> None:
    pass


def _never() -> bool:
    return False


@dataclass(slots=True, eq=False)
class Turn:
    """One analysis, from its start to its end.

    Attributes
    ----------
    analysis_id : str
    is_stat : bool
    began : float
        Monotonic seconds.
    is_alone : bool
        Whether its rows must not stand in one batch with those of others.
    waited : callable
        Told how many seconds it waited for others, each time.
    pause : callable
        Blocks until it may take its next step; see `GivingWay`.
    gives_way : callable
        Tells whether it has to wait now for others that are more urgent.
    rows, batches : int
        What was computed for it so far, and in how many batches.
    asks : bool
        Whether it waits for rows to be computed.
    waited_seconds : float
        For others, all together.
    first_seconds : float or None
        From its start to the end of the first batch with a row of it.
    served : dict
        By model: rows that count against it when the next one is chosen. Managed by the queue.
    """

    analysis_id: str
    is_stat: bool
    began: float
    is_alone: bool = False
    waited: Callable[[float], None] = _heed_nothing
    pause: Callable[[], None] = _go_on
    gives_way: Callable[[], bool] = _never
    rows: int = 0
    batches: int = 0
    asks: bool = False
    waited_seconds: float = 0.0
    first_seconds: float | None = None
    served: dict[object, float] = field(default_factory=dict)


def current_turn() -> Turn | None:
    """Return the analysis that this thread carries out; None outside of one."""
    return _CURRENT.get()


def yield_to_stat() -> None:
    """Let STAT go first, between two steps of a routine analysis that this thread carries out.

    Returns at once without one, and where no STAT analysis of this process is under way. Whoever
    calls must hold nothing that others wait for, no transaction above all.
    """
    turn = current_turn()
    if turn is not None:
        turn.pause()


@contextmanager
def as_current(turn: Turn) -> Iterator[None]:
    """Be this analysis for the duration of the block."""
    token = _CURRENT.set(turn)
    try:
        yield
    finally:
        _CURRENT.reset(token)
