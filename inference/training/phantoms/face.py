"""What lies below and in front of the brain: muscle, fat, air and bone, nearly symmetric.

Its purpose is to be in the picture: muscle is as bright as blood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .fields import Ellipsoid, FloatArray, SmoothField, between, logistic, union
from .skull import Grid, Places

_EXTENT = (170.0, 300.0, 300.0)
_SIDES = (-1, 1)


@dataclass(frozen=True, slots=True)
class Face:
    """The face and the neck.

    Attributes
    ----------
    level : float
        Height in mm below which there is no brain but the canal of the cord.
    parts, gaps : SmoothField
        Where which tissue is.
    eyes : tuple of Ellipsoid
        Globes, in fat.
    """

    level: float
    parts: SmoothField
    gaps: SmoothField
    canal: Ellipsoid
    eyes: tuple[Ellipsoid, ...]
    muscle: float
    fat: float
    bone: float
    airiness: float

    @classmethod
    def draw(cls, rng: np.random.Generator, half_width: float, half_length: float) -> Face:
        """Draw a face that fits a skull of these inner half axes in mm."""
        level = between(rng, -64, -52)
        globe = between(rng, 10, 13)
        eyes = tuple(
            Ellipsoid(
                (side * 0.48 * half_width, -0.98 * half_length, level + between(rng, 10, 16)),
                (globe, globe, globe),
            )
            for side in _SIDES
        )
        return cls(
            level=level,
            parts=SmoothField.draw(rng, between(rng, 7, 12), _EXTENT),
            gaps=SmoothField.draw(rng, between(rng, 6, 10), _EXTENT),
            canal=Ellipsoid((0, 0.3 * half_length, level - 25), (16, 14, 45), 0, 2),
            eyes=eyes,
            muscle=between(rng, 45, 68),
            fat=between(rng, -115, -60),
            bone=between(rng, 200, 900),
            airiness=between(rng, 0.2, 1.2),
        )

    def share(self, places: Places) -> FloatArray:
        """Return where the face takes the place of the brain, 0 to 1."""
        forward = 0.35 * np.clip(-places.y - 45, 0, None)
        return logistic((self.level + forward - places.z) / 2)

    def density(self, grid: Grid, z: float, places: Places) -> FloatArray:
        """Return HU as if the face were everywhere."""
        mirrored = np.abs(grid.x)
        kind = self.parts.plane(z, grid.y, mirrored) + 0.4 * self.parts.plane(z, grid.y, grid.x)
        gap = self.gaps.plane(z, grid.y, mirrored)
        flesh = logistic((kind + 0.6) * 6)
        hu = self.fat + (self.muscle - self.fat) * flesh
        bony = logistic((kind - 1.5) * 10)
        hu = hu + (self.bone - hu) * bony
        # Sinuses and airways are in the middle of the face.
        front = logistic((-places.y - 5) / 6) * logistic((45 - np.abs(places.x)) / 5)
        air = logistic((gap - 1.6 + self.airiness) * 8) * front
        hu = hu * (1 - air) - 1000 * air
        globe = union(self.eyes, places.x, places.y, places.z)
        hu = hu * (1 - globe) + 8 * globe
        cord = self.canal.weight(places.x, places.y, places.z)
        return np.asarray(hu * (1 - cord) + 28 * cord, dtype=np.float32)
