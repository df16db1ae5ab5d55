"""Stored whole numbers that become values piece by piece, where they are needed.

Values of single precision take two to four times the memory of what is stored, and moving them
costs more than computing them: what scales a picture takes them from here, a few rows at a time,
while the processor has them at hand. They are the same to the last bit as those of the picture as a
whole. Light: no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
# Given some of the cells of a plane, and room for their values: returns the values, there or not.
Piece = Callable[[NDArray[Any], Values], Values]


@dataclass(frozen=True, slots=True, eq=False)
class StoredPlane:
    """A grey frame whose values rise or fall with what is stored (PS3.3 C.11.1.1.2).

    Attributes
    ----------
    stored : ndarray of integers, (rows, columns)
    slope, intercept : float32
        Of the rescale.
    taken_from : float32 or None
        What the rescaled values are subtracted from, in an inversion.
    least : float32 or None
        What lower values become.
    """

    stored: NDArray[Any]
    slope: np.float32
    intercept: np.float32
    taken_from: np.float32 | None = None
    least: np.float32 | None = None
    _whole: list[Values] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.stored.shape[0]), int(self.stored.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes now."""
        return self.stored.nbytes + sum(one.nbytes for one in self._whole)

    @property
    def values(self) -> Values:
        """All values, (rows, columns); made once."""
        if not self._whole:
            made = self.fill(self.stored, np.empty(self.shape, dtype=np.float32))
            self._whole.append(made)
        return self._whole[0]

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        ends = np.array([self.stored.min(), self.stored.max()])
        low, high = sorted(map(float, self.fill(ends, np.empty(2, dtype=np.float32))))
        return low, high

    def fill(self, cells: NDArray[Any], room: Values) -> Values:
        """Write the values of some cells into `room`, of their shape, and return it."""
        room[...] = cells
        if self.slope != 1.0:
            room *= self.slope
        if self.intercept != 0.0:
            room += self.intercept
        if self.taken_from is not None:
            np.subtract(self.taken_from, room, out=room)
        if self.least is not None:
            np.maximum(room, self.least, out=room)
        return room

    def inverted(self, total: float) -> StoredPlane:
        """Return the plane whose values are those of this one taken from `total`."""
        assert self.taken_from is None and self.least is None, "the rescale alone"
        return replace(self, taken_from=np.float32(total), _whole=[])

    def at_least(self, least: float) -> StoredPlane:
        """Return the plane without values below `least`."""
        return replace(self, least=np.float32(least), _whole=[])


Plane = Values | StoredPlane


def whole(plane: Plane) -> Values:
    """Return all values of a plane."""
    return plane.values if isinstance(plane, StoredPlane) else np.asarray(plane, np.float32)


def ends_of(plane: Plane) -> tuple[float, float]:
    """Return the lowest and the highest value of a plane."""
    if isinstance(plane, StoredPlane):
        return plane.ends
    return float(plane.min()), float(plane.max())


def in_pieces(plane: Plane) -> tuple[NDArray[Any], Piece]:
    """Return the cells of a plane, and what makes values of some of them."""
    if isinstance(plane, StoredPlane) and not plane._whole:
        return plane.stored, plane.fill
    return whole(plane), _as_they_are


def _as_they_are(cells: NDArray[Any], _room: Values) -> Values:
    return cells
