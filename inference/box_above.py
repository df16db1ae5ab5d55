"""Where a picture is above a value: around a head there is nothing but air."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .placement import Box
from .stored_plane import Piece

# Rows that are looked at together, from either end.
_TOGETHER = 8


def box_above(cells: NDArray[Any], piece: Piece, floor: np.float32) -> Box:
    """Return a box outside of which no value is above `floor`.

    It can be a few rows higher than it need be. Where no value is above, it is empty.

    Parameters
    ----------
    cells : ndarray, (rows, columns)
    piece : callable
        Makes values of some of them; see `in_pieces`.

    Returns
    -------
    tuple of int
        Top, left, bottom and right; bottom and right are the first ones outside.
    """
    rows = cells.shape[0]
    room = np.empty((min(rows, _TOGETHER), cells.shape[1]), dtype=np.float32)

    def is_above(at: int) -> bool:
        some = cells[at : at + _TOGETHER]
        return bool(piece(some, room[: len(some)]).max() > floor)

    starts = range(0, rows, _TOGETHER)
    top = next(filter(is_above, starts), None)
    if top is None:
        return 0, 0, 0, 0
    last = next(filter(is_above, reversed(starts)))
    bottom = min(last + _TOGETHER, rows)
    # Values rise or fall with what they are made of.
    ends = np.stack([cells[top:bottom].min(axis=0), cells[top:bottom].max(axis=0)])
    values = piece(ends, np.empty(ends.shape, dtype=np.float32))
    columns = np.flatnonzero(values.max(axis=0) > floor)
    return top, int(columns[0]), bottom, int(columns[-1]) + 1
