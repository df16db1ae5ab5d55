"""Rows that do not pass are found by halving the batch: the others get their results.

A whole batch is given up only if none of several rows passes: then it is not the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import BundleError
from .engine import Engine, RawOutputs, Rows, joined_outputs
from .errors import EngineRunError


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What a batch came to.

    Attributes
    ----------
    rows : tuple of int
        Which rows of the batch have results, ascending.
    outputs : RawOutputs or None
        Of these rows; None if there are none.
    poisoned : mapping of int to EngineRunError
        The other rows, and why.
    """

    rows: tuple[int, ...]
    outputs: RawOutputs | None
    poisoned: Mapping[int, EngineRunError] = field(default_factory=dict)


def in_parts(engine: Engine, rows: Rows, size: int) -> Answered:
    """Carry the network out for those rows that can be, at most `size` at a time.

    Parameters
    ----------
    engine : Engine
    rows : ndarray or Tensor of float32, (rows, channels, size, size)
    size : int
        1 or more.

    Raises
    ------
    EngineRunError
        If all of several rows fail.
    EngineError
        Whatever else the engine raises.
    BundleError
        If the network gives more or fewer rows than it was given.
    """
    parts: list[RawOutputs] = []
    poisoned: dict[int, EngineRunError] = {}
    for start in range(0, len(rows), size):
        _bisect(engine, rows, start, min(start + size, len(rows)), parts, poisoned)
    if len(poisoned) == len(rows) > 1:
        raise next(iter(poisoned.values()))
    answered = tuple(row for row in range(len(rows)) if row not in poisoned)
    return Answered(answered, joined_outputs(parts) if parts else None, poisoned)


def _bisect(
    engine: Engine,
    rows: Rows,
    start: int,
    stop: int,
    parts: list[RawOutputs],
    poisoned: dict[int, EngineRunError],
) -> None:
    """Take down what the rows from `start` to `stop` come to, in their order."""
    try:
        outputs = engine.run(rows[start:stop])
    except EngineRunError as error:
        if stop - start == 1:
            poisoned[start] = error
            return
        middle = (start + stop) // 2
        _bisect(engine, rows, start, middle, parts, poisoned)
        _bisect(engine, rows, middle, stop, parts, poisoned)
    else:
        _check_rows(outputs, stop - start)
        parts.append(outputs)


def _check_rows(outputs: RawOutputs, count: int) -> None:
    """Raise BundleError unless each row has outputs: else one study would get those of another."""
    for one in (*outputs.tensors, outputs.class_maps):
        if one is not None and one.shape[:1] != (count,):
            raise BundleError(f"the network gives outputs of shape {one.shape} for {count} rows")
