"""Networks of which a row's result depends on what is beside it: they get one row at a time.

A network that, say, takes the mean of all that it is given would have one study's pixels change the
result of another one in the same batch. Light: no torch.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..activations import activated
from ..bundle import Bundle
from .engine import Engine, EngineIdentity, RawOutputs, Rows
from .errors import EngineError

# Kernels for one row and for several round differently, by 1e-6; what mixes rows is far beyond.
_SAME = 1e-3


class RowByRow:
    """An engine that runs each row alone.

    Parameters
    ----------
    engine : Engine
        What runs them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def identity(self) -> EngineIdentity:
        """What the engine is; more than one row gains nothing."""
        return replace(self._engine.identity, best_batch=1)

    def run(self, rows: Rows) -> RawOutputs:
        """Carry the network out; see `Engine.run`."""
        parts = [self._engine.run(rows[row : row + 1]) for row in range(len(rows))]
        maps = [part.class_maps for part in parts if part.class_maps is not None]
        return RawOutputs(
            tensors=tuple(
                np.concatenate(same) for same in zip(*(p.tensors for p in parts), strict=True)
            ),
            class_maps=np.concatenate(maps) if maps else None,
            made_with=parts[0].made_with,
        )

    def release(self) -> None:
        """Give back memory that is held for later."""
        self._engine.release()


def mixes_rows(bundle: Bundle, engine: Engine, rows: NDArray[np.float32]) -> bool:
    """Tell whether what an engine gives for a row depends on the others.

    Parameters
    ----------
    bundle : Bundle
    engine : Engine
        In single precision.
    rows : ndarray of float32, (rows, channels, size, size)
        Several, of different pictures.

    Returns
    -------
    bool
        False also where it fails: that is told where it matters.
    """
    try:
        together, alone = engine.run(rows), RowByRow(engine).run(rows)
    except EngineError:
        return False
    for one, other in zip(together.tensors, alone.tensors, strict=True):
        if one.shape != other.shape:
            return True
        told, found = activated(one, bundle.activation), activated(other, bundle.activation)
        if not float(np.abs(told - found).max()) <= _SAME:
            return True
    return False
