"""The one resize kernel: a triangle over each output pixel, as wide as the picture is reduced.

It is torch's bilinear interpolation with antialiasing (`F.interpolate`), which its name in bundles
says, and which a GPU runs. Here the same weights are applied as small matrix products, rows first:
an output row depends on a band of input rows, and a few output rows together on a band that is
little wider. That takes half the time of torch's loops on a CPU and differs by rounding alone, 1e-6
of the range. Light: no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Output rows, or columns, that are computed together: many where their triangles are narrow.
_TOGETHER, _TOGETHER_WIDE = 16, 8
_WIDE = 4.0
# A plane of so many pixels stays in the processor's cache as a whole.
_SMALL = 1 << 19
# Different sizes are few: those of the scanners of a hospital, and boxes around heads.
_KEPT = 512

Plane = NDArray[np.float32]
Greys = Callable[[Plane, Plane], None]


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
    weights: Plane
    turned: Plane


def scale_plane(plane: Plane, out: Plane, greys: Greys | None = None) -> None:
    """Scale one plane, (rows, columns), into another one, on the CPU.

    Parameters
    ----------
    plane, out : ndarray of float32
    greys : callable, optional
        What is done to every pixel before: given some rows and where to put what becomes of them.
        A large plane is never copied as a whole.
    """
    rows, columns = plane.shape
    down, across = bands(rows, out.shape[0]), bands(columns, out.shape[1])
    if greys is not None and plane.size <= _SMALL:
        made = np.empty(plane.shape, dtype=np.float32)
        greys(plane, made)
        plane, greys = made, None
    between = np.empty((out.shape[0], columns), dtype=np.float32)
    if greys is None:
        for band in down:
            np.matmul(band.weights, plane[band.inputs], out=between[band.outputs])
    else:
        most = max(band.weights.shape[1] for band in down)
        scratch = np.empty((most, columns), dtype=np.float32)
        for band in down:
            part = scratch[: band.weights.shape[1]]
            greys(plane[band.inputs], part)
            np.matmul(band.weights, part, out=between[band.outputs])
    for band in across:
        np.matmul(between[:, band.inputs], band.turned, out=out[:, band.outputs])


@lru_cache(maxsize=_KEPT)
def bands(inputs: int, outputs: int) -> Sequence[Band]:
    """Return the weights of scaling `inputs` pixels to `outputs`, in bands.

    They are computed in single precision, step by step as torch does: in double precision the last
    digits differ, and with them where a triangle ends.
    """
    first, counts, weights = _triangles(inputs, outputs)
    together = _TOGETHER if inputs < _WIDE * outputs else _TOGETHER_WIDE
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
