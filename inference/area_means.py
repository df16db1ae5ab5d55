"""Means over the parts of a picture that a coarse grid cuts it into."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
# Sides of pictures and of grids are few.
_KEPT = 256


def area_means(plane: Plane, grid: tuple[int, int]) -> Plane:
    """Return the mean of each part; parts of a side that does not divide overlap by a pixel.

    It is torch's adaptive pooling by the mean, and its interpolation by ``area``: part `i` of `n`
    reaches from ``floor(i * side / n)`` to ``ceil((i + 1) * side / n)``.

    Parameters
    ----------
    plane : ndarray of float32, (rows, columns)
    grid : (int, int)
        Rows and columns of the result; where it is finer than the picture, pixels are repeated.

    Returns
    -------
    ndarray of float32, `grid`
    """
    down, across = _parts(plane.shape[0], grid[0]), _parts(plane.shape[1], grid[1])
    between = np.empty((grid[0], plane.shape[1]), dtype=np.float32)
    for row, part in enumerate(down):
        plane[part].sum(axis=0, out=between[row])
    # Column by column of a transposed copy: rows that lie together are summed faster.
    turned = np.ascontiguousarray(between.T)
    made = np.empty((grid[1], grid[0]), dtype=np.float32)
    for column, part in enumerate(across):
        turned[part].sum(axis=0, out=made[column])
    counts = np.outer(_lengths(across), _lengths(down))
    return np.ascontiguousarray((made / counts).T)


@lru_cache(maxsize=_KEPT)
def _parts(side: int, count: int) -> tuple[slice, ...]:
    return tuple(slice(i * side // count, -(-(i + 1) * side // count)) for i in range(count))


def _lengths(parts: tuple[slice, ...]) -> Plane:
    return np.array([part.stop - part.start for part in parts], dtype=np.float32)
