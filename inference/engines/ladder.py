"""What is tried before an analysis is given up: a ladder of smaller batches and another device.

::

    out of memory   half of the batch, a quarter, the spare engine on the CPU, a coded failure
    device lost     the spare engine, until the process ends; somebody is told
    rows that fail  the batch is bisected: the others get their results, these alone fail

A ladder is an engine itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .bisection import Answered, in_parts
from .engine import Engine, EngineIdentity, RawOutputs, Rows
from .engine_events import Event, Step, log_event
from .errors import DeviceLostError, EngineOutOfMemoryError, PoisonedRowsError

# Batches that pass before a size is tried again for which there was no memory.
_CALM = 64


class Ladder:
    """An engine that does not give up at once.

    Parameters
    ----------
    engine : Engine
    spare : callable, optional
        Gives the engine to take instead, on the CPU; called when it is needed first. Without one
        the ladder ends with a quarter of the batch.
    tell : callable
        Is told of each step, in the thread that runs.
    """

    def __init__(
        self,
        engine: Engine,
        spare: Callable[[], Engine] | None = None,
        tell: Callable[[Event], None] = log_event,
    ) -> None:
        self._engine = engine
        self._make_spare = spare
        self._tell = tell
        self._spare: Engine | None = None
        self._lost: str | None = None
        self._limit: int | None = None
        self._calm = 0
        self._state = threading.Lock()

    @property
    def identity(self) -> EngineIdentity:
        """What runs now: the engine, or its spare once the device is lost."""
        spare = self._spare if self._lost is not None else None
        return (spare or self._engine).identity

    @property
    def lost(self) -> str | None:
        """Why the device is lost, after which only a new process brings it back; None before."""
        return self._lost

    def run(self, rows: Rows) -> RawOutputs:
        """Carry the network out for all rows; see `Engine.run`.

        Raises
        ------
        PoisonedRowsError
            If some rows fail while others do not, or the only one does.
        EngineOutOfMemoryError, DeviceLostError
            If the spare engine fails too, or there is none.
        EngineRunError
            If all of several rows fail: then it is not the rows.
        """
        answered = self.answer(rows)
        if answered.poisoned or answered.outputs is None:
            first = next(iter(answered.poisoned.values()))
            raise PoisonedRowsError(tuple(answered.poisoned), str(first)) from first
        return answered.outputs

    def release(self) -> None:
        """Give back memory that is held for later."""
        self._engine.release()

    def hear(self, error: DeviceLostError | EngineOutOfMemoryError) -> None:
        """Take note of what happened on the device elsewhere, such as where its input is made."""
        if isinstance(error, DeviceLostError):
            self._give_up(error, 1)
        else:
            self._note(Step.SPARE, 1, error)

    def answer(self, rows: Rows) -> Answered:
        """Carry the network out for those rows that can be; see `run` for what it raises.

        Parameters
        ----------
        rows : ndarray or Tensor of float32, (rows, channels, size, size)
        """
        if self._lost is None:
            try:
                return self._on_the_device(rows)
            except DeviceLostError as error:
                self._give_up(error, len(rows))
                if self._make_spare is None:
                    raise
            except EngineOutOfMemoryError as error:
                last = self._make_spare is None
                self._note(Step.EXHAUSTED if last else Step.SPARE, len(rows), error)
                if last:
                    raise
        elif self._make_spare is None:
            raise DeviceLostError(self._lost)
        return self._on_the_spare(rows)

    def _on_the_device(self, rows: Rows) -> Answered:
        """Try the batch, half of it and a quarter at a time."""
        sizes = self._sizes(len(rows))
        for number, size in enumerate(sizes, start=1):
            try:
                answered = self._in_parts(self._engine, rows, size)
            except EngineOutOfMemoryError as error:
                self._engine.release()
                if number == len(sizes):
                    raise
                self._note(Step.SMALLER, size, error)
                self._lower(sizes[number])
            else:
                self._passed()
                return answered
        raise AssertionError("a batch has rows")

    def _on_the_spare(self, rows: Rows) -> Answered:
        spare = self._spare_engine()
        try:
            return self._in_parts(spare, rows, min(len(rows), spare.identity.best_batch))
        except EngineOutOfMemoryError as error:
            self._note(Step.EXHAUSTED, len(rows), error, spare)
            raise

    def _in_parts(self, engine: Engine, rows: Rows, size: int) -> Answered:
        answered = in_parts(engine, rows, size)
        for error in answered.poisoned.values():
            self._note(Step.POISONED, 1, error, engine)
        return answered

    def _sizes(self, count: int) -> list[int]:
        """Return the sizes to try, largest first; what failed lately is not tried again yet."""
        wanted = (count, -(-count // 2), -(-count // 4))
        limit = self._limit or count
        return [size for size in dict.fromkeys(wanted) if size <= limit] or [min(limit, count)]

    def _lower(self, size: int) -> None:
        with self._state:
            self._limit, self._calm = size, 0

    def _passed(self) -> None:
        """After a while try larger batches again: another process may have left the device."""
        with self._state:
            if self._limit is None:
                return
            self._calm += 1
            if self._calm >= _CALM:
                self._limit, self._calm = self._limit * 2, 0

    def _give_up(self, error: DeviceLostError, rows: int) -> None:
        with self._state:
            first, self._lost = self._lost is None, str(error)
        if first:
            self._note(Step.DEVICE_LOST, rows, error)

    def _spare_engine(self) -> Engine:
        assert self._make_spare is not None
        with self._state:
            if self._spare is None:
                self._spare = self._make_spare()
            return self._spare

    def _note(self, step: Step, rows: int, error: Exception, engine: Engine | None = None) -> None:
        known = (engine or self._engine).identity
        self._tell(Event(step, known.name, known.device, rows, str(error)))
