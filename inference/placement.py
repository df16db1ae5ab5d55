"""Which part of a picture the network sees, and where in its square input that part stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int]
# Top, left, bottom, right in pixels; bottom and right are the first ones outside.
Box = tuple[int, int, int, int]
Scaling = Literal["fit", "stretch", "none"]


@dataclass(frozen=True, slots=True)
class Placement:
    """A part of a source, scaled so that its longer side fills the input, and centred there.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the source.
    box : tuple of int
        Top, left, bottom and right of the part of the source that is shown.
    size : int
        Rows and columns of the (square) input.
    scaling : {"fit", "stretch", "none"}
        Whether the part keeps its proportions, is stretched to the square, or keeps its size.

    Raises
    ------
    ValueError
        If the box is empty or not inside the source.
    """

    shape: Shape
    box: Box
    size: int
    scaling: Scaling = "fit"

    def __post_init__(self) -> None:
        top, left, bottom, right = self.box
        rows, columns = self.shape
        if not (0 <= top < bottom <= rows and 0 <= left < right <= columns):
            raise ValueError(f"a box of {self.box} is not inside {columns} x {rows} pixels")

    @classmethod
    def whole(cls, shape: Shape, size: int) -> Placement:
        """Return the placement that shows the whole source."""
        return cls(shape, (0, 0, *shape), size)

    @property
    def whole_source(self) -> bool:
        """Whether all of the source is shown."""
        return self.box == (0, 0, *self.shape)

    @property
    def fitted(self) -> Shape:
        """Rows and columns of the part within the input, padding left out."""
        top, left, bottom, right = self.box
        if self.scaling == "stretch":
            return self.size, self.size
        if self.scaling == "none":
            return bottom - top, right - left
        scale = self.size / max(bottom - top, right - left)
        return max(1, round((bottom - top) * scale)), max(1, round((right - left) * scale))

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the input that show the source; the others are padding."""
        rows, columns = self.fitted
        top, left = (self.size - rows) // 2, (self.size - columns) // 2
        return slice(top, top + rows), slice(left, left + columns)

    def part_of(self, square: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the part of a map over the input, (..., size, size), that shows the source."""
        down, across = self.inside
        return square[..., down, across]

    def over_source(self, square: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a map over the input as a map over the whole source, 0 where nobody looked.

        Parameters
        ----------
        square : ndarray of float32, (size, size)

        Returns
        -------
        ndarray of float32, (h, w)
            Covers the source from edge to edge with about the resolution of the input.
        """
        part = self.part_of(square)
        top, left, bottom, right = self.box
        down, across = part.shape[0] / (bottom - top), part.shape[1] / (right - left)
        first = round(top * down), round(left * across)
        rest = round((self.shape[0] - bottom) * down), round((self.shape[1] - right) * across)
        return np.pad(part, tuple(zip(first, rest, strict=True))).astype(np.float32)
