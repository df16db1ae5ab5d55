"""Interpolation between pixels: bilinear, pixels taken as areas, nothing averaged.

It is torch's bilinear interpolation without ``align_corners`` and without antialiasing, its sums in
the same order and in single precision.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
_Line = tuple[NDArray[np.intp], NDArray[np.intp], Plane, Plane]
_KEPT = 256


def bilinear(plane: Plane, size: tuple[int, int]) -> Plane:
    """Return a picture at another size.

    Beyond the centres of the outermost pixels their values go on.

    Parameters
    ----------
    plane : ndarray of float32, (rows, columns)
    size : (int, int)
        Rows and columns of the result.

    Returns
    -------
    ndarray of float32, `size`
    """
    if plane.shape == tuple(size):
        return plane.copy()
    left, right, of_left, of_right = _line(plane.shape[1], size[1])
    across = plane[:, left] * of_left + plane[:, right] * of_right
    above, below, of_above, of_below = _line(plane.shape[0], size[0])
    return np.asarray(
        across[above] * of_above[:, None] + across[below] * of_below[:, None], dtype=np.float32
    )


@lru_cache(maxsize=_KEPT)
def _line(known: int, wanted: int) -> _Line:
    """Return the two known pixels of each wanted one, and how much each counts."""
    half = np.float32(0.5)
    scale = np.float32(known) / np.float32(wanted)
    at = np.maximum(scale * (np.arange(wanted, dtype=np.float32) + half) - half, np.float32(0))
    before = np.minimum(at.astype(np.intp), known - 1)
    after = np.minimum(before + 1, known - 1)
    of_after = np.clip(at - before.astype(np.float32), np.float32(0), np.float32(1))
    return before, after, np.float32(1) - of_after, of_after
