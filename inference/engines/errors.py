"""What can go wrong in an engine, in words that do not depend on which engine it is."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InferenceError


class EngineError(InferenceError):
    """An engine cannot do what it is for.

    Attributes
    ----------
    code : str
        Stored as the reason of an analysis that ends so.
    """

    code = "engine_failed"


class EngineOutOfMemoryError(EngineError):
    """There is not enough memory for a batch of this size; a smaller one may pass."""

    code = "out_of_memory"


class DeviceLostError(EngineError):
    """The device is gone, or its state is unknown: nothing runs on it until the process ends."""

    code = "device_lost"


class EngineRunError(EngineError):
    """The network cannot be carried out on these rows."""


class PoisonedRowsError(EngineError):
    """Some rows of a batch cannot be carried out, alone or among others; the others can.

    Attributes
    ----------
    rows : tuple of int
        Which, from 0.
    """

    code = "poisoned_input"

    def __init__(self, rows: Sequence[int], cause: str) -> None:
        listed = ", ".join(str(row) for row in rows)
        super().__init__(f"the network fails on row {listed} of its batch: {cause}")
        self.rows = tuple(rows)


class EngineUnavailableError(EngineError):
    """An engine that a bundle insists on cannot be had."""

    code = "engine_unavailable"


class ExportError(EngineError):
    """A network cannot be exported, or what was exported gives something else."""
