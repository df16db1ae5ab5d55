"""Rows that wait, batches made of them, and what came back."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Protocol

from ..engines.bisection import Answered
from ..engines.engine import EngineIdentity, RawOutputs, Rows, joined_outputs, joined_rows
from ..engines.errors import EngineRunError, PoisonedRowsError
from .turn import Turn


class Answers(Protocol):
    """What stands behind a batcher: a ladder."""

    @property
    def identity(self) -> EngineIdentity:
        """What runs."""
        ...

    def answer(self, rows: Rows, /) -> Answered:
        """Carry the network out for those rows that can be; see `Ladder.answer`."""
        ...

    def run(self, rows: Rows, /) -> RawOutputs:
        """Carry the network out; see `Engine.run`."""
        ...

    def release(self) -> None:
        """Give back memory that is held for later."""
        ...


@dataclass(slots=True, eq=False)
class Request:
    """The rows of one call, and what is known of them.

    Attributes
    ----------
    arrived : float
        Monotonic seconds.
    kind : tuple
        Rows of one kind can stand in one batch.
    taken : int
        Rows that went to the device.
    answered : int
        Rows that came back, one way or the other.
    parts : list of RawOutputs
        Of the rows that have results, in their order.
    poisoned : dict of int to EngineRunError
        Of this call's rows.
    error : Exception or None
        What reached the whole batch.
    computing : float
        Seconds of the device's time.
    told : float
        Seconds that it was told to have waited for others.
    ended : float
        Monotonic seconds.
    done : threading.Event
    """

    turn: Turn
    rows: Rows
    arrived: float
    kind: tuple[object, ...]
    taken: int = 0
    answered: int = 0
    parts: list[RawOutputs] = field(default_factory=list)
    poisoned: dict[int, EngineRunError] = field(default_factory=dict)
    error: Exception | None = None
    computing: float = 0.0
    told: float = 0.0
    ended: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def left(self) -> int:
        """Rows that wait."""
        return len(self.rows) - self.taken

    def outputs(self) -> RawOutputs:
        """Return what the caller gets, or raise what it gets instead.

        Raises
        ------
        PoisonedRowsError
            If some of its rows fail while others do not, or its only one does.
        Exception
            What the engine raised for the whole batch.
        """
        if self.error is not None:
            raise self.error
        if self.poisoned:
            first = next(iter(self.poisoned.values()))
            if len(self.poisoned) == len(self.rows) > 1:
                raise first  # as a ladder has it: then it is not the rows
            raise PoisonedRowsError(tuple(sorted(self.poisoned)), str(first)) from first
        return joined_outputs(self.parts)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one call in a batch."""

    request: Request
    start: int
    stop: int

    @property
    def rows(self) -> Rows:
        """These rows alone."""
        whole = (self.start, self.stop) == (0, len(self.request.rows))
        return self.request.rows if whole else self.request.rows[self.start : self.stop]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are computed together.

    Attributes
    ----------
    model : str
    answers : Answers
        Of this model.
    is_stat : bool
        Whether it is made for a STAT analysis.
    """

    model: str
    answers: Answers
    pieces: tuple[Piece, ...]
    is_stat: bool

    @property
    def turns(self) -> dict[Turn, int]:
        """The analyses in it, and how many rows each has."""
        counted: dict[Turn, int] = {}
        for piece in self.pieces:
            turn = piece.request.turn
            counted[turn] = counted.get(turn, 0) + piece.stop - piece.start
        return counted

    @property
    def calls(self) -> list[Request]:
        """The calls with rows in it, each once."""
        return list(dict.fromkeys(piece.request for piece in self.pieces))

    def __len__(self) -> int:
        """Return how many rows it has."""
        return sum(piece.stop - piece.start for piece in self.pieces)

    @property
    def rows(self) -> Rows:
        """All rows, one after the other."""
        parts = [piece.rows for piece in self.pieces]
        return parts[0] if len(parts) == 1 else joined_rows(parts)

    def hand_out(self, answered: Answered) -> None:
        """Give each call what is its own of an answer."""
        # Of `outputs`, which has the rows with results alone.
        places = {row: place for place, row in enumerate(answered.rows)}
        begin = 0
        for piece in self.pieces:
            count = piece.stop - piece.start
            own = [places[row] for row in range(begin, begin + count) if row in places]
            if own and answered.outputs is not None:
                piece.request.parts.append(_own_of(answered.outputs, own))
            for row in range(begin, begin + count):
                if row in answered.poisoned:
                    piece.request.poisoned[row - begin + piece.start] = answered.poisoned[row]
            begin += count


def kind_of(rows: Rows, turn: Turn) -> tuple[object, ...]:
    """Return what rows must have in common to stand in one batch: shape, type and place."""
    whose = turn if turn.is_alone else None
    return (type(rows), tuple(rows.shape[1:]), rows.dtype, getattr(rows, "device", None), whose)


def _own_of(outputs: RawOutputs, places: list[int]) -> RawOutputs:
    """Return the rows at these places, ascending; copies, so that nobody holds others' memory."""
    count = len(outputs.tensors[0]) if outputs.tensors else len(places)
    if len(places) == count:
        return outputs
    maps = None if outputs.class_maps is None else outputs.class_maps[places]
    made = tuple(outputs.of_rows[place] for place in places)
    return RawOutputs(
        tensors=tuple(one[places] for one in outputs.tensors),
        class_maps=maps,
        made_with=max(made, key=lambda one: one.batch),
        apart=made if len(set(made)) > 1 else (),
    )
