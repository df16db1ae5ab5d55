"""Stacks of slices that show a painted ellipsoid, in any direction, unevenly apart, tilted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.reading import SourceImage
from inference.volume import Slice, Stack, arrange

Array = NDArray[np.float64]

BODY, INSIDE = 0.0, 100.0  # HU


@dataclass(frozen=True)
class Painted:
    """A stack in the patient's coordinates, and the ellipsoid in it.

    ``turn`` is a rotation of the whole stack; ``shear`` shifts slices down their columns by so many
    mm for each mm along the normal, as under a tilted gantry; ``along`` are positions in mm.
    """

    turn: Array
    along: tuple[float, ...]
    shear: float = 0.0
    shape: tuple[int, int] = (64, 72)
    spacing: tuple[float, float] = (1.5, 1.25)
    radii: tuple[float, float, float] = (18.0, 14.0, 16.0)

    @property
    def axes(self) -> tuple[Array, Array, Array]:
        """Directions along rows, down columns and along the normal."""
        right, down, normal = (self.turn @ np.eye(3)[n] for n in range(3))
        return right, down, normal

    @property
    def center(self) -> Array:
        right, down, normal = self.axes
        middle = (self.along[0] + self.along[-1]) / 2
        rows, columns = self.shape
        at = [self.spacing[1] * columns * 0.55, self.spacing[0] * rows * 0.45]
        return at[0] * right + (at[1] + self.shear * middle) * down + middle * normal

    def origin(self, number: int) -> Array:
        _, down, normal = self.axes
        return self.along[number] * (normal + self.shear * down)

    def inside(self, number: int) -> NDArray[np.bool_]:
        """Which pixels of a slice show the ellipsoid, whose axes are the patient's."""
        right, down, _ = self.axes
        rows, columns = self.shape
        r = np.arange(rows)[:, None, None] * self.spacing[0] * down
        c = np.arange(columns)[None, :, None] * self.spacing[1] * right
        away = (self.origin(number) + r + c - self.center) / np.array(self.radii)
        return np.asarray((away**2).sum(axis=-1) <= 1.0)

    @property
    def ml(self) -> float:
        """Volume of the ellipsoid."""
        return float(4.0 / 3.0 * np.pi * np.prod(self.radii) / 1000.0)

    def pixels(self, number: int) -> NDArray[np.float32]:
        return np.where(self.inside(number), INSIDE, BODY).astype(np.float32)

    def header(self, number: int) -> dict[str, Any]:
        """Attributes of a slice."""
        right, down, _ = self.axes
        return {
            "ImagePositionPatient": [f"{v:.9g}" for v in self.origin(number)],
            "ImageOrientationPatient": [f"{v:.9g}" for v in (*right, *down)],
            "PixelSpacing": list(self.spacing),
            "InstanceNumber": number + 1,
        }

    def slices(self) -> list[Slice]:
        """Its slices as headers tell them; each one's file is named by its number."""
        right, down, _ = self.axes
        return [
            Slice(
                image=SourceImage(n, f"1.2.{n}", "1.2", "1.2.1", Path(str(n))),
                frame=0,
                rows=self.shape[0],
                columns=self.shape[1],
                instance_number=n,
                position=tuple(self.origin(n)),
                orientation=(*right, *down),
                location=None,
                thickness=None,
                gantry_tilt=None,
                localizer=False,
                pixel_spacing=self.spacing,
            )
            for n in range(len(self.along))
        ]

    def stack(self, order: list[int] | None = None) -> tuple[Stack, list[int]]:
        """The arranged stack, and the number of each of its slices."""
        slices = self.slices()
        stack = arrange([slices[n] for n in order or range(len(slices))])
        return stack, [int(one.image.path.name) for one in stack.slices]

    def turned(self, turn: Array) -> Painted:
        return replace(self, turn=turn @ self.turn)


def rotation(degrees: tuple[float, float, float]) -> Array:
    """Turn around x, then y, then z."""
    made = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        one[i, i] = one[j, j] = np.cos(angle)
        one[i, j], one[j, i] = -np.sin(angle), np.sin(angle)
        made = one @ made
    return made


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2.0 * (found & truth).sum() / (found.sum() + truth.sum()))
