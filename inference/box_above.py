"""Where a picture is above a value: around a head there is nothing but air."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .placement import Box

# Rows that are looked at together, from either end.
_TOGETHER = 8


def box_above(plane: NDArray[np.float32], floor: np.float32) -> Box:
    """Return a box outside of which no pixel is above `floor`.

    It can be a few rows higher than it need be. Where no pixel is above, it is empty.

    Parameters
    ----------
    plane : ndarray of float32, (rows, columns)

    Returns
    -------
    tuple of int
        Top, left, bottom and right; bottom and right are the first ones outside.
    """
    rows = plane.shape[0]
    starts = range(0, rows, _TOGETHER)
    top = next((at for at in starts if plane[at : at + _TOGETHER].max() > floor), None)
    if top is None:
        return 0, 0, 0, 0
    last = next(at for at in reversed(starts) if plane[at : at + _TOGETHER].max() > floor)
    bottom = min(last + _TOGETHER, rows)
    columns = np.flatnonzero(plane[top:bottom].max(axis=0) > floor)
    return top, int(columns[0]), bottom, int(columns[-1]) + 1
