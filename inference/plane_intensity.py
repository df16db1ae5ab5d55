"""The steps of `intensity_spec` on a picture in NumPy, as MONAI's transforms compute them.

`intensity` takes the same steps on tensors, of pictures and volumes on any device.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .intensity_spec import Intensity, Pair

Plane = NDArray[np.float32]


def apply(picture: Plane, step: Intensity) -> Plane:
    """Return a picture, (rows, columns), after a step; statistics are taken over all of it."""
    return _STEPS[step.kind](picture, step)


def _range(picture: Plane, step: Intensity) -> Plane:
    assert step.source is not None, "a range has a source"
    return _scaled(picture, step.source, step)


def _percentiles(picture: Plane, step: Intensity) -> Plane:
    assert step.source is not None, "percentiles have a source"
    ordered = np.sort(picture, axis=None)
    low, high = (_percentile(ordered, share) for share in step.source)
    return _scaled(picture, (low, high), step)


def _percentile(ordered: Plane, share: float) -> float:
    """Interpolate between ranks."""
    rank = share / 100.0 * (ordered.size - 1)
    below = int(rank)
    above = min(below + 1, ordered.size - 1)
    first, second = float(ordered[below]), float(ordered[above])
    return first + (second - first) * (rank - below)


def _minmax(picture: Plane, step: Intensity) -> Plane:
    return _scaled(picture, (float(picture.min()), float(picture.max())), step)


def _scaled(picture: Plane, source: Pair, step: Intensity) -> Plane:
    (low, high), (bottom, top) = source, step.target
    if not high > low:  # an image of one value
        return np.full_like(picture, bottom)
    scaled = (picture - np.float32(low)) / np.float32(high - low)
    scaled = scaled * np.float32(top - bottom) + np.float32(bottom)
    return np.clip(scaled, bottom, top) if step.clip else scaled


def _standardize(picture: Plane, step: Intensity) -> Plane:
    counted = picture[picture != 0] if step.nonzero else picture
    if not counted.size:
        return picture
    mean = float(counted.mean(dtype=np.float64)) if step.mean is None else step.mean
    deviation = step.deviation
    if deviation is None:
        deviation = float(counted.std(dtype=np.float64)) or 1.0
    changed = (picture - np.float32(mean)) / np.float32(deviation)
    return np.where(picture != 0, changed, picture) if step.nonzero else changed


_STEPS = {
    "range": _range,
    "minmax": _minmax,
    "percentiles": _percentiles,
    "standardize": _standardize,
}
