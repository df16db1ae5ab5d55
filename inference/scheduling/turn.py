"""An analysis that is under way: who asks for rows to be computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

_CURRENT: ContextVar[Turn | None] = ContextVar("preread_turn", default=None)


def _heed_nothing(_seconds: float) -> None:
    pass


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
        Told how many seconds its rows waited for others, each time they are done.
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
    rows: int = 0
    batches: int = 0
    asks: bool = False
    waited_seconds: float = 0.0
    first_seconds: float | None = None
    served: dict[object, float] = field(default_factory=dict)


def current_turn() -> Turn | None:
    """Return the analysis that this thread carries out; None outside of one."""
    return _CURRENT.get()


@contextmanager
def as_current(turn: Turn) -> Iterator[None]:
    """Be this analysis for the duration of the block."""
    token = _CURRENT.set(turn)
    try:
        yield
    finally:
        _CURRENT.reset(token)
