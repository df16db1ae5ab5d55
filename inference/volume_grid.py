"""Where the voxels of a volume lie, and how values go there from slices and back.

A stack of slices has three axes: along its normal, down its columns and along its rows. A volume
has the same axes, in another order and turned round where its orientation asks for that, so that
every step between the two is a matrix along one axis. Slices may be shifted against each other in
their plane, as under a tilted gantry: the volume is a box, and each slice lies in it where its own
position says.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from .errors import NotAnalysableError
from .reading import NotAnalysed
from .spacing import same_place
from .volume import Stack
from .volume_spec import VolumeSpec

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# Directions of the axes' letters in the patient's coordinates (PS3.3 C.7.6.2.1.1): left, posterior,
# head. MONAI names where an index grows to.
_TOWARDS: Mapping[str, tuple[int, float]] = MappingProxyType(
    {"L": (0, 1.0), "R": (0, -1.0), "P": (1, 1.0), "A": (1, -1.0), "S": (2, 1.0), "I": (2, -1.0)}
)
# Cosine of the angle by which rows of slices may differ: a degree, as for their normals.
_SAME_DIRECTION = float(np.cos(np.radians(1.0)))
# Share by which pixel spacings may differ, and in mm how slices may be shifted, by rounding.
_SAME_SPACING = 1e-3
_ROUNDING_MM = 0.01
# Voxels that are more than any stack of a patient has: 4 GB.
_MOST_VOXELS = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """A stack of slices in space.

    Attributes
    ----------
    along : ndarray of float64, (slices,)
        Position of each slice along the normal in mm, ascending.
    down, right : ndarray of float64, (slices,)
        Position of each slice's first pixel down its columns and along its rows in mm.
    spacing : (float, float)
        Distance of rows, then of columns, in mm.
    shape : (int, int)
        Rows and columns.
    directions : ndarray of float64, (3, 3)
        Unit vectors of those three axes in the patient's coordinates.
    place : ndarray of int, (slices,)
        Number of each slice's place: slices at one position share one.
    """

    along: Vector
    down: Vector
    right: Vector
    spacing: tuple[float, float]
    shape: tuple[int, int]
    directions: Matrix
    place: NDArray[np.intp]

    @property
    def shifted(self) -> bool:
        """Whether slices are shifted against each other in their plane."""
        return bool(max(np.ptp(self.down), np.ptp(self.right)) > _ROUNDING_MM)

    @property
    def opening(self) -> NDArray[np.intp]:
        """The first slice of each place."""
        return np.unique(self.place, return_index=True)[1]

    def extent(self, axis: int) -> tuple[float, float]:
        """Return the first and the last position of pixel centres along an axis in mm."""
        if axis == 0:
            return float(self.along[0]), float(self.along[-1])
        first, step, count = self._plane(axis)
        return float(first.min()), float(first.max()) + step * (count - 1)

    def pixels(self, axis: int, number: int) -> Vector:
        """Return where the pixels of a slice lie along axis 1 or 2 in mm."""
        first, step, count = self._plane(axis)
        return np.asarray(first[number] + step * np.arange(count), dtype=np.float64)

    def step(self, axis: int) -> float:
        """Return the distance of samples along an axis in mm; of uneven slices the median."""
        if axis == 0:
            return float(np.median(np.diff(self.along[self.opening])))
        return self._plane(axis)[1]

    def _plane(self, axis: int) -> tuple[Vector, float, int]:
        first = self.down if axis == 1 else self.right
        return first, self.spacing[axis - 1], self.shape[axis - 1]


def geometry_of(stack: Stack) -> Geometry:
    """Return where a stack lies in space.

    Raises
    ------
    NotAnalysableError
        NO_GEOMETRY if its headers do not tell, or its slices are no volume together.
    """
    first, normal = stack.slices[0], stack.normal
    if normal is None or first.orientation is None or first.pixel_spacing is None:
        raise _no_geometry("position, orientation or pixel spacing of slices is not known")
    place = same_place(stack.positions_mm)
    if place[-1] < 1:
        raise _no_geometry("all slices lie at one place")
    right, down = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    right, down = right / np.linalg.norm(right), down / np.linalg.norm(down)
    positions = []
    for one in stack.slices:
        if one.position is None or one.orientation is None or one.pixel_spacing is None:
            raise _no_geometry("position, orientation or pixel spacing of a slice is not known")
        turned = min(right @ one.orientation[:3], down @ one.orientation[3:]) < _SAME_DIRECTION
        if turned or not np.allclose(one.pixel_spacing, first.pixel_spacing, rtol=_SAME_SPACING):
            raise _no_geometry("slices are turned in their plane, or differ in pixel spacing")
        positions.append(one.position)
    at = np.array(positions)
    return Geometry(
        along=stack.positions_mm,
        down=at @ down,
        right=at @ right,
        spacing=(first.pixel_spacing[0], first.pixel_spacing[1]),
        shape=(first.rows, first.columns),
        directions=np.stack([normal, down, right]),
        place=place,
    )


def _no_geometry(reason: str) -> NotAnalysableError:
    return NotAnalysableError(NotAnalysed.NO_GEOMETRY, f"{reason}; a volume cannot be made of them")


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a volume.

    Attributes
    ----------
    source : int
        The axis of the stack: 0 along its normal, 1 down its columns, 2 along its rows.
    start, step : float
        Position of the first voxel, and distance of the next, along that axis in mm; the step is
        below 0 where the axis is turned round.
    count : int
    """

    source: int
    start: float
    step: float
    count: int

    @property
    def positions(self) -> Vector:
        """Where its voxels lie, in mm."""
        return np.asarray(self.start + self.step * np.arange(self.count), dtype=np.float64)

    def part(self, first: int, count: int) -> Axis:
        """Return `count` voxels from `first` on, which may lie outside."""
        return replace(self, start=self.start + self.step * first, count=count)

    def stretched(self, count: int) -> Axis:
        """Return the same extent, borders of voxels included, in other voxels."""
        step = self.step * self.count / count
        return replace(self, start=self.start + (step - self.step) / 2, step=step, count=count)


Axes = tuple[Axis, Axis, Axis]


def axes_of(geometry: Geometry, spec: VolumeSpec) -> Axes:
    """Return the axes of the volume that a specification asks for, before its size.

    As MONAI does it: the axes of the stack that are nearest to those asked for, none of them
    turned; the first voxel stays where it is, and the last comes nearest to where it was.

    Raises
    ------
    NotAnalysableError
        UNSUPPORTED_PIXELS if it would have more voxels than any stack of a patient.
    """
    cosines = np.zeros((3, 3))
    for number, letter in enumerate(spec.orientation):
        component, sign = _TOWARDS[letter]
        cosines[number] = sign * geometry.directions[:, component]
    order = max(
        itertools.permutations(range(3)),
        key=lambda sources: sum(abs(cosines[n, s]) for n, s in enumerate(sources)),
    )
    made = []
    for number, source in enumerate(order):
        low, high = geometry.extent(source)
        size = spec.spacing[number] if spec.spacing is not None else geometry.step(source)
        grows = cosines[number, source] > 0
        count = round((high - low) / size) + 1
        made.append(Axis(source, low if grows else high, size if grows else -size, count))
    if np.prod([float(axis.count) for axis in made]) > _MOST_VOXELS:
        raise NotAnalysableError(
            NotAnalysed.UNSUPPORTED_PIXELS, f"the volume has more than {_MOST_VOXELS} voxels"
        )
    first, second, third = made
    return first, second, third


def weights(at: Vector, samples: Vector, step: float | None = None) -> Matrix:
    """Return the matrix that interpolates samples: linear between them, constant beyond.

    Parameters
    ----------
    at : ndarray of float64, (m,)
        Where values are wanted, in mm.
    samples : ndarray of float64, (n,)
        Where they are, ascending, evenly or not.
    step : float, optional
        Distance of the values that are wanted. Where samples lie closer than that, a triangle as
        wide as twice the step takes their mean, each by the extent that it stands for.

    Returns
    -------
    ndarray of float64, (m, n)
        Rows sum to one.
    """
    inside = np.clip(at, samples[0], samples[-1])
    if len(samples) == 1:
        return np.ones((len(at), 1))
    lower = np.clip(np.searchsorted(samples, inside, side="right") - 1, 0, len(samples) - 2)
    local = samples[lower + 1] - samples[lower]
    share = (inside - samples[lower]) / local
    matrix = np.zeros((len(at), len(samples)))
    rows = np.arange(len(at))
    matrix[rows, lower] = 1.0 - share
    matrix[rows, lower + 1] += share
    if step is None or not (wide := local < step * (1.0 - 1e-6)).any():
        return matrix
    distances = np.diff(samples)
    cells = np.concatenate((distances[:1], distances)) + np.concatenate((distances, distances[-1:]))
    triangle = np.clip(1.0 - np.abs(inside[wide, None] - samples) / step, 0.0, None) * cells
    matrix[wide] = triangle / triangle.sum(axis=1, keepdims=True)
    return matrix


def weights_within(at: Vector, axis: Axis) -> Matrix:
    """Return the matrix that interpolates along an axis of a volume, and gives zero beyond it.

    Parameters
    ----------
    at : ndarray of float64, (m,)
        Where values are wanted, in mm along the stack's axis.

    Returns
    -------
    ndarray of float64, (m, count)
        In the order of the volume's voxels; rows of positions in a voxel sum to one.
    """
    index = (at - axis.start) / axis.step
    matrix = weights(index, np.arange(axis.count, dtype=np.float64))
    matrix[(index < -0.5 - 1e-6) | (index > axis.count - 0.5 + 1e-6)] = 0.0
    return matrix
