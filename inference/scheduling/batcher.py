"""An engine that shares its device: rows of several analyses become one batch."""

from __future__ import annotations

from ..engines.engine import EngineIdentity, RawOutputs, Rows
from .device_queue import DeviceQueue
from .lane import Lane
from .requests import Answers
from .turn import current_turn


class Batcher:
    """Stands around the ladder of a loaded model, for the analyses of one device.

    Parameters
    ----------
    model : str
        Its name.
    ladder : Ladder
        Or whatever answers as one.
    queue : DeviceQueue
        All models of a device share one.
    """

    def __init__(self, model: str, ladder: Answers, queue: DeviceQueue) -> None:
        self._lane = Lane(model, ladder)
        self._ladder = ladder
        self._queue = queue

    @property
    def identity(self) -> EngineIdentity:
        """What runs now."""
        return self._ladder.identity

    def run(self, rows: Rows) -> RawOutputs:
        """Carry the network out; many threads may call.

        Within a turn the rows wait for their place, and may be computed beside others and in
        several batches; ``made_with`` tells of the largest. Outside of one they are computed here
        and now. Tensors must be ready on torch's current stream.

        Parameters
        ----------
        rows : ndarray or Tensor of float32, (rows, channels, size, size)

        Raises
        ------
        PoisonedRowsError
            If some of these rows fail while others do not, or the only one does; numbers are those
            of this call. Others in the batch get their results.
        EngineRunError
            If all of several rows fail.
        EngineError
            What happens to the whole batch reaches everybody in it; see `Ladder.run`.
        """
        turn = current_turn()
        if turn is None or not len(rows) or not self._queue.has(turn):
            return self._ladder.run(rows)
        return self._queue.ask(turn, self._lane, rows)

    def release(self) -> None:
        """Give back memory that is held for later."""
        self._ladder.release()
