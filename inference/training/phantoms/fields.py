"""Smooth random fields and soft shapes: what phantoms are made of.

Everything is a function of position in millimetres, so that one phantom can be drawn at any pixel
size and its slices agree with each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Most are of single precision; where places enter as Python floats, NumPy widens some.
FloatArray = NDArray[np.floating[Any]]

# A cubic B-spline over white noise keeps 151/315 of the variance along each axis.
_KEPT_VARIANCE = 151 / 315


def logistic(values: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-values)) without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)), dtype=np.float32)


def ridge(distance: FloatArray, width: float | FloatArray) -> FloatArray:
    """Return 1 where `distance` is 0, falling off as a Gaussian of `width`."""
    return np.asarray(np.exp(-np.square(distance / width)), dtype=np.float32)


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw one number between `low` and `high`."""
    return float(rng.uniform(low, high))


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Draw whether something of `probability` happens."""
    return bool(rng.random() < probability)


def _spline_matrix(positions: FloatArray, count: int) -> FloatArray:
    """Return the (len(positions), count) cubic B-spline weights of a periodic lattice."""
    cell = np.floor(positions)
    t = (positions - cell).astype(np.float32)
    pieces = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    matrix = np.zeros((len(positions), count), np.float32)
    rows = np.arange(len(positions))
    for offset, weight in enumerate(pieces):
        matrix[rows, (cell.astype(int) + offset) % count] += weight
    return matrix


@dataclass(frozen=True, slots=True)
class SmoothField:
    """A smooth random field of about unit variance over (z, y, x) in mm.

    Attributes
    ----------
    lattice : numpy.ndarray, shape (kz, ky, kx)
        White noise; the field repeats beyond it.
    spacing : float
        Distance of lattice points in mm: the field's features are about twice as large.
    """

    lattice: FloatArray
    spacing: float

    @classmethod
    def draw(
        cls, rng: np.random.Generator, spacing: float, extent: tuple[float, float, float]
    ) -> SmoothField:
        """Draw a field that does not repeat within `extent` (z, y, x, in mm)."""
        shape = tuple(math.ceil(length / spacing) + 4 for length in extent)
        return cls(rng.standard_normal(shape, dtype=np.float32), spacing)

    def plane(self, z: float, y: FloatArray, x: FloatArray) -> FloatArray:
        """Return the field at height `z` on the grid of rows `y` and columns `x` (both 1-D)."""
        depth, height, width = self.lattice.shape
        across = _spline_matrix(np.asarray([z / self.spacing], np.float32), depth)[0]
        layer = np.tensordot(across, self.lattice, axes=1)
        rows = _spline_matrix(y / self.spacing, height)
        columns = _spline_matrix(x / self.spacing, width)
        gain = _KEPT_VARIANCE ** (-3 / 2)
        return np.asarray(gain * (rows @ layer @ columns.T), dtype=np.float32)


def noise_image(rng: np.random.Generator, shape: tuple[int, int], grain: float = 0.0) -> FloatArray:
    """Return unit-variance noise; `grain` is the standard deviation of its blur in pixels."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    if grain <= 0:
        return noise
    noise = blurred(noise, grain)
    return np.asarray(noise / (noise.std() + 1e-6), dtype=np.float32)


def blurred(image: FloatArray, sigma: float) -> FloatArray:
    """Return `image` (height, width) under a Gaussian of `sigma` pixels, edges repeated."""
    if sigma <= 0.05:
        return image
    radius = max(1, math.ceil(3 * sigma))
    taps = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / sigma)).astype(np.float32)
    taps /= taps.sum()
    result = image
    for _ in range(2):  # rows, then (transposed) columns
        padded = np.pad(result, ((radius, radius), (0, 0)), mode="edge")
        total = np.zeros(result.shape, np.float32)
        for start, tap in enumerate(taps):
            total += tap * padded[start : start + len(result)]
        result = total.T
    return np.ascontiguousarray(result)


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """A soft ellipsoid, turned about the vertical axis; lengths in mm, `angle` in radians."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    angle: float = 0.0
    softness: float = 1.0

    def weight(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        """Return how much of each place is inside, 0 to 1; all of one shape."""
        rise = (z - self.centre[2]) / self.axes[2]
        if np.abs(rise).min() > 1.0 + 4 * self.softness / min(self.axes):
            return np.zeros(x.shape, np.float32)
        dx, dy = x - self.centre[0], y - self.centre[1]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        u = (cos * dx + sin * dy) / self.axes[0]
        v = (cos * dy - sin * dx) / self.axes[1]
        radius = np.sqrt(np.square(u) + np.square(v) + np.square(rise))
        return logistic((1 - radius) * np.float32(min(self.axes) * (2 / self.softness)))


def union(shapes: Iterable[Ellipsoid], x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    """Return the largest weight of `shapes` at each place."""
    total = np.zeros(x.shape, np.float32)
    for shape in shapes:
        total = np.maximum(total, shape.weight(x, y, z))
    return total
