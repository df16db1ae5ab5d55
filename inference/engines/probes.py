"""Inputs that any network of a bundle's shape can read, the same each time.

Of planes their own steps make the input. No torch. None of them is blank: a network that
normalises each picture by its own spread has nothing but rounding to enlarge there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle

# A shadow that is hardly there, as a share of the range.
_FAINT = 0.02
# What a picture of 12 bits and a CT slice have room for, black to white.
_FILM, _HU = (0.0, 4095.0), (-1000.0, 1000.0)


def probes(bundle: Bundle) -> tuple[NDArray[np.float32], ...]:
    """Return inputs of a bundle's shape and range: pictures of soft blobs, noise, and next to none.

    Returns
    -------
    tuple of ndarray of float32, (rows, channels, size, size)
        In batches of 1 and of 3 rows.
    """
    spec = bundle.spec
    size = spec.size
    channels = 1 if spec.plane is not None else spec.channels
    soft = _blobs(channels, size)
    noise = np.random.default_rng(7).random((1, channels, size, size), dtype=np.float32)
    drawn = np.concatenate([soft, noise, _FAINT * soft, 0.5 * (soft + noise)])
    rows = _by_steps(bundle, drawn[:, 0]) if spec.plane is not None else _in_range(bundle, drawn)
    return rows[:1], rows[1:]


def _blobs(channels: int, size: int) -> NDArray[np.float32]:
    """Return one picture of soft spots, 0 to 1."""
    draw = np.random.default_rng(6)
    places = np.linspace(0.0, 1.0, size, dtype=np.float32)
    soft = np.zeros((1, channels, size, size), dtype=np.float32)
    for _ in range(6):
        x, y, width = (*draw.uniform(0.2, 0.8, 2), draw.uniform(0.05, 0.3))
        spot = np.exp(-((places - x) ** 2 + (places[:, None] - y) ** 2) / width**2)
        soft += draw.uniform(0.2, 1.0, (1, channels, 1, 1)).astype(np.float32) * spot
    return np.asarray(soft / soft.max(), dtype=np.float32)


def _in_range(bundle: Bundle, drawn: NDArray[np.float32]) -> NDArray[np.float32]:
    black, white = bundle.spec.value_range
    return np.asarray(drawn * (white - black) + black, dtype=np.float32)


def _by_steps(bundle: Bundle, drawn: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the steps of a plane make of pictures: their range is known to them alone."""
    from ..planes import prepare_planes

    black, white = _FILM if bundle.spec.kind == "radiograph" else _HU
    values = (drawn * (white - black) + black).astype(np.float32)
    # One by one: steps may look at all values that they are given.
    made = [prepare_planes(one[None], bundle.spec) for one in values]
    return np.concatenate([np.asarray(one, dtype=np.float32) for one in made])
