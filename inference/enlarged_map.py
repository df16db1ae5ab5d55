"""A small map over a large picture, by a smooth curve that shows no more than its cells know.

Light: no torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .placement import Box, Shape

# Top, left, bottom and right in pixels of the source, where the outer edges of a map lie: beyond
# the source where the input was padded.
Extent = tuple[float, float, float, float]
# Longest side of a map that is enlarged to be drawn.
_DRAWN = 256


def enlarged(
    levels: NDArray[np.uint8], source: Shape, extent: Extent, seen: Box, shape: Shape | None = None
) -> NDArray[np.float32]:
    """Return a map over the whole source, 0 to 1, and 0 where the network saw nothing.

    Parameters
    ----------
    levels : ndarray of uint8, (h, w)
        The map; each cell is one value.
    source : tuple of int
        Rows and columns of the source.
    extent : tuple of float
        Where the outer edges of the map lie in the source.
    seen : tuple of int
        The part of the source that the network saw: top, left, bottom, right.
    shape : tuple of int, optional
        Rows and columns; with about the proportions of the source if not given.

    Returns
    -------
    ndarray of float32, (rows, columns)
        Covers the source from edge to edge; its highest place is 1 if there is any evidence.
    """
    rows, columns = shape or _drawn(source)
    top, left, bottom, right = extent
    down = _curve(levels.shape[0], (top, bottom), source[0], rows)
    across = _curve(levels.shape[1], (left, right), source[1], columns)
    full = down @ levels.astype(np.float32) @ across.T
    high, wide = (bottom - top) / levels.shape[0], (right - left) / levels.shape[1]
    inside = np.outer(
        _within(seen[0::2], source[0], rows, high / 2),
        _within(seen[1::2], source[1], columns, wide / 2),
    )
    full *= inside
    highest = full.max(initial=0.0)
    return np.asarray(full / highest if highest > 0 else full, dtype=np.float32)


def _drawn(source: Shape) -> Shape:
    scale = min(1.0, _DRAWN / max(source))
    return max(1, round(source[0] * scale)), max(1, round(source[1] * scale))


def _curve(cells: int, edges: tuple[float, float], length: int, wanted: int) -> NDArray[np.float32]:
    """Return how much each cell counts in each line over the source, (wanted, cells).

    Cubic B-splines: smooth, never below 0, and a single cell becomes a round spot of its own size.
    Beyond the outermost cells their values go on.
    """
    start, end = edges
    places = (np.arange(wanted) + 0.5) * (length / wanted)
    at = ((places - start) * (cells / (end - start)) - 0.5).clip(0.0, cells - 1)
    first = np.floor(at).astype(np.intp)
    t = at - first
    shares = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    weights = np.zeros((wanted, cells), dtype=np.float32)
    lines = np.arange(wanted)
    for offset, share in enumerate(shares, -1):
        np.add.at(weights, (lines, (first + offset).clip(0, cells - 1)), share)
    return weights


def _within(edges: tuple[int, ...], length: int, wanted: int, fade: float) -> NDArray[np.float32]:
    """Return how much of each line is shown, (wanted,): nothing beyond what the network saw.

    Inside an edge that is not that of the source it fades: a line would be taken for the edge of a
    finding.
    """
    places = (np.arange(wanted) + 0.5) * (length / wanted)
    first, last = edges
    shown = np.ones(wanted)
    if first > 0:
        shown = np.minimum(shown, (places - first) / fade)
    if last < length:
        shown = np.minimum(shown, (last - places) / fade)
    return np.asarray(shown.clip(0.0, 1.0), dtype=np.float32)
