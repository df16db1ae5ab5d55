"""Inputs that any network of a bundle's shape can read, the same each time. Light: no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle


def probes(bundle: Bundle) -> tuple[NDArray[np.float32], ...]:
    """Return inputs of a bundle's shape and range: pictures of soft blobs, noise, and nothing.

    Returns
    -------
    tuple of ndarray of float32, (rows, channels, size, size)
        In batches of 1 and of 3 rows.
    """
    spec = bundle.spec
    black, white = spec.value_range
    size, channels = spec.size, spec.channels
    draw = np.random.default_rng(6)
    places = np.linspace(0.0, 1.0, size, dtype=np.float32)
    soft = np.zeros((1, channels, size, size), dtype=np.float32)
    for _ in range(6):
        x, y, width = (*draw.uniform(0.2, 0.8, 2), draw.uniform(0.05, 0.3))
        spot = np.exp(-((places - x) ** 2 + (places[:, None] - y) ** 2) / width**2)
        soft += draw.uniform(0.2, 1.0, (1, channels, 1, 1)).astype(np.float32) * spot
    soft /= soft.max()
    noise = draw.random((1, channels, size, size), dtype=np.float32)
    three = np.concatenate([noise, np.zeros_like(noise), 0.5 * (soft + noise)])
    return tuple((rows * (white - black) + black).astype(np.float32) for rows in (soft, three))
