"""The one resize kernel: a triangle over each output pixel, as wide as the picture is reduced.

It is torch's bilinear interpolation with antialiasing (`F.interpolate`), which its name in bundles
says, and which a GPU runs. Here the same weights are applied as small matrix products, rows first:
an output row depends on a band of input rows, and a few output rows together on a band that is
little wider. That takes half the time of torch's loops on a CPU and differs by rounding alone, 1e-6
of the range. Light: no torch.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .placement import Box
from .stored_plane import Values

# Output rows, or columns, that are computed together: many where their triangles are narrow. Rows
# of a picture lie one after the other; of its columns short pieces lie far apart.
ROWS, _COLUMNS, _COLUMNS_WIDE = 8, 16, 8
_WIDE = 4.0
# So many pixels stay in the processor's cache from what is done to each until they are scaled.
_AT_HAND = 1 << 16
# Different sizes are few: those of the scanners of a hospital, and boxes around heads.
_KEPT = 1024

Greys = Callable[[NDArray[Any], Values], None]


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """What some neighbouring outputs are made of.

    Attributes
    ----------
    outputs, inputs : slice
        Which they are, and which inputs they depend on.
    weights : ndarray of float32, (outputs, inputs)
    turned : ndarray of float32, (inputs, outputs)
        The same, transposed.
    """

    outputs: slice
    inputs: slice
    weights: Values
    turned: Values


def scale_plane(
    plane: NDArray[Any],
    out: Values,
    greys: Greys | None = None,
    shown: Box | None = None,
) -> tuple[slice, slice]:
    """Scale one plane, (rows, columns), into another one, on the CPU.

    Parameters
    ----------
    plane, out : ndarray
        Of float32, but that `greys` may take anything.
    greys : callable, optional
        What is done to every pixel before: given some rows and where to put what becomes of them.
        A large plane is never copied as a whole.
    shown : tuple of int, optional
        Top, left, bottom and right of what is to be seen of `plane`.

    Returns
    -------
    tuple of slice
        Rows and columns of `out` that were made: with `shown`, those that depend on it alone.
    """
    rows, columns = plane.shape
    wide = columns >= _WIDE * out.shape[1]
    down = bands(rows, out.shape[0], ROWS)
    across = bands(columns, out.shape[1], _COLUMNS_WIDE if wide else _COLUMNS)
    if shown is not None:
        down = _touched(down, shown[0], shown[2])
        across = _touched(across, shown[1], shown[3])
        if not down or not across:
            return slice(0, 0), slice(0, 0)
    left, right = across[0].inputs.start, across[-1].inputs.stop
    between = np.empty((out.shape[0], right - left), dtype=np.float32)
    if greys is None:
        for band in down:
            np.matmul(band.weights, plane[band.inputs, left:right], out=between[band.outputs])
    else:
        _scale_rows(plane[:, left:right], between, greys, down)
    made = slice(down[0].outputs.start, down[-1].outputs.stop)
    for band in across:
        inputs = slice(band.inputs.start - left, band.inputs.stop - left)
        np.matmul(between[made, inputs], band.turned, out=out[made, band.outputs])
    return made, slice(across[0].outputs.start, across[-1].outputs.stop)


def _scale_rows(plane: NDArray[Any], out: Values, greys: Greys, down: Sequence[Band]) -> None:
    """Scale the rows, as many bands at a time as stay at hand."""
    groups = _grouped(down, plane.shape[1])
    most = max(one[-1].inputs.stop - one[0].inputs.start for one in groups)
    scratch = np.empty((most, plane.shape[1]), dtype=np.float32)
    for group in groups:
        first, last = group[0].inputs.start, group[-1].inputs.stop
        greys(plane[first:last], scratch[: last - first])
        for band in group:
            inputs = scratch[band.inputs.start - first : band.inputs.stop - first]
            np.matmul(band.weights, inputs, out=out[band.outputs])


def _grouped(down: Sequence[Band], columns: int) -> Sequence[Sequence[Band]]:
    """Put those bands together whose inputs are few enough to stay at hand."""
    groups: list[list[Band]] = []
    for band in down:
        if groups and (band.inputs.stop - groups[-1][0].inputs.start) * columns <= _AT_HAND:
            groups[-1].append(band)
        else:
            groups.append([band])
    return groups


def _touched(all_bands: Sequence[Band], first: int, last: int) -> Sequence[Band]:
    """Return the bands, in order, with an input from `first` to before `last`."""
    begin = bisect_right(all_bands, first, key=lambda band: band.inputs.stop)
    end = bisect_left(all_bands, last, key=lambda band: band.inputs.start)
    return all_bands[begin:end]


@lru_cache(maxsize=_KEPT)
def bands(inputs: int, outputs: int, together: int) -> Sequence[Band]:
    """Return the weights of scaling `inputs` pixels to `outputs`, in bands of so many together.

    They are computed in single precision, step by step as torch does: in double precision the last
    digits differ, and with them where a triangle ends.
    """
    first, counts, weights = _triangles(inputs, outputs)
    made = []
    for start in range(0, outputs, together):
        stop = min(start + together, outputs)
        low = int(first[start:stop].min())
        high = int((first[start:stop] + counts[start:stop]).max())
        block = np.zeros((stop - start, high - low), dtype=np.float32)
        for row, at in enumerate(range(start, stop)):
            block[row, first[at] - low : first[at] - low + counts[at]] = weights[at, : counts[at]]
        turned = np.ascontiguousarray(block.T)
        made.append(Band(slice(start, stop), slice(low, high), block, turned))
    return tuple(made)


def _triangles(
    inputs: int, outputs: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return where the triangle of each output begins, how many inputs it covers, and its weights.

    An output pixel covers `scale` inputs; its triangle reaches one such width to either side of
    its centre, and a pixel at least.
    """
    one, half = np.float32(1), np.float32(0.5)
    scale = np.float32(inputs) / np.float32(outputs)
    reach = max(scale, one)
    inverse = one / scale if scale >= one else one
    centers = scale * (np.arange(outputs, dtype=np.float32) + half)
    first = np.maximum((centers - reach + half).astype(np.int64), 0)
    last = np.minimum((centers + reach + half).astype(np.int64), inputs)
    counts = last - first
    steps = np.arange(int(counts.max()), dtype=np.int64)
    places = (first[:, None] + steps).astype(np.float32) - centers[:, None] + half
    weights = (one - np.abs(places * inverse)).clip(0).astype(np.float32)
    weights[steps[None] >= counts[:, None]] = 0
    return first, counts, weights / weights.sum(axis=1, keepdims=True, dtype=np.float32)
