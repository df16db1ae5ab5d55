"""The skull of a head phantom and how the head lies in the scanner."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .fields import FloatArray, between, chance, logistic, ridge


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels of an axial slice are: rows `y`, columns `x`, in mm from the isocentre.

    As in the patient coordinate system (PS3.3 C.7.6.2.1.1): x to the left, y to the back.
    """

    y: FloatArray
    x: FloatArray

    @classmethod
    def centred(cls, size: int, spacing: float) -> Grid:
        """Return a square grid of `size` pixels of `spacing` mm about the isocentre."""
        places = ((np.arange(size) - (size - 1) / 2) * spacing).astype(np.float32)
        return cls(places, places)


@dataclass(frozen=True, slots=True)
class Places:
    """Head coordinates of every pixel of a slice in mm: left, back, up; each (height, width)."""

    x: FloatArray
    y: FloatArray
    z: FloatArray


@dataclass(frozen=True, slots=True)
class Pose:
    """How the head lies: turned about the axis, tilted (chin), rolled (ear); radians and mm."""

    turn: float
    tilt: float
    roll: float
    shift: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Pose:
        """Draw a pose as of a patient who was positioned with ordinary care."""
        return cls(
            turn=float(rng.normal(0, 0.08)),
            tilt=between(rng, -0.3, 0.3),
            roll=float(rng.normal(0, 0.05)),
            shift=(between(rng, -8, 8), between(rng, -10, 10)),
        )

    def places(self, grid: Grid, z: float) -> Places:
        """Return head coordinates of the pixels of `grid` at table height `z`."""
        x, y = np.meshgrid(grid.x - self.shift[0], grid.y - self.shift[1])
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        left, back = cos * x + sin * y, cos * y - sin * x
        up = z + math.tan(self.tilt) * back + math.tan(self.roll) * left
        return Places(left.astype(np.float32), back.astype(np.float32), up.astype(np.float32))


@dataclass(frozen=True, slots=True)
class Skull:
    """A rounded vault with a wavy outline; lengths in mm, densities in HU."""

    half_width: float
    half_length: float
    vertex: float
    squareness: float
    thickness: float
    crest: tuple[float, float]
    waves: tuple[tuple[int, float, float], ...]
    density: float
    diploe: float
    sharpness: float
    scalp: float
    scalp_hu: float
    swelling: tuple[float, float, float]
    holder: tuple[float, float, float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Skull:
        """Draw a skull of an adult."""
        half_width = between(rng, 62, 80)
        amplitude = between(rng, 0.004, 0.02)
        return cls(
            half_width=half_width,
            half_length=half_width * between(rng, 1.1, 1.36),
            vertex=between(rng, 74, 92),
            squareness=between(rng, 2.0, 2.5),
            thickness=between(rng, 4.0, 8.5),
            crest=(between(rng, 0, 4), between(rng, 0, 4)),
            waves=tuple(
                (order, amplitude / order * float(rng.normal()), between(rng, 0, 2 * math.pi))
                for order in range(1, 6)
            ),
            density=between(rng, 750, 1500),
            diploe=between(rng, 0.0, 0.5),
            sharpness=between(rng, 0.4, 1.1),
            scalp=between(rng, 2.5, 9.0),
            scalp_hu=between(rng, -110, 30),
            swelling=(
                between(rng, 0, 2 * math.pi),
                between(rng, 0.2, 0.5),
                between(rng, 4, 14) if chance(rng, 0.15) else 0.0,
            ),
            holder=(
                between(rng, 8, 26),
                between(rng, 2, 7),
                between(rng, -700, 120) if chance(rng, 0.7) else -1000.0,
                between(rng, 0.5, 2.2),
            ),
        )

    def depth_below_surface(self, places: Places) -> FloatArray:
        """Return mm from the outer table inwards, negative outside."""
        rise = np.clip(places.z / self.vertex, -1.2, 0.999)
        vault = np.power(1 - np.power(np.clip(rise, 0, None), 2.3), 1 / 2.3)
        scale = np.where(rise > 0, vault, 1 - 0.16 * np.square(rise))
        angle = np.arctan2(places.y, places.x)
        outline = np.power(
            np.power(np.abs(np.cos(angle)) / self.half_width, self.squareness)
            + np.power(np.abs(np.sin(angle)) / self.half_length, self.squareness),
            -1 / self.squareness,
        )
        for order, amplitude, phase in self.waves:
            outline = outline * (1 + amplitude * np.cos(order * angle + phase))
        # Towards the vertex the vault leans: what looks far in the slice is near in space.
        up = np.clip(rise, 0, None)
        lean = self.half_width / self.vertex * np.power(up, 1.3) / np.maximum(vault, 0.05) ** 1.3
        lean = np.minimum(lean, 2.0)
        depth = (outline * scale - np.hypot(places.x, places.y)) / np.sqrt(1 + np.square(lean))
        return np.where(places.z < self.vertex, depth, -50).astype(np.float32)

    def wall(self, places: Places) -> FloatArray:
        """Return the thickness of the bone in mm in the direction of each place."""
        angle = np.arctan2(places.y, places.x)
        front, back = self.crest
        crests = front * ridge(angle + math.pi / 2, 0.2) + back * ridge(angle - math.pi / 2, 0.2)
        return np.asarray(self.thickness + crests, dtype=np.float32)

    def cover(
        self, brain: FloatArray, depth: FloatArray, places: Places, openness: FloatArray
    ) -> FloatArray:
        """Return `brain` (HU) with bone, scalp and air around it.

        Parameters
        ----------
        brain : numpy.ndarray
            HU of what lies inside.
        depth : numpy.ndarray
            mm below the inner table, negative in bone and outside.
        openness : numpy.ndarray
            Where flesh is instead of the wall of the skull, as in the face: 0 to 1.
        """
        wall = self.wall(places)
        bone = logistic(-depth / self.sharpness) * (1 - 0.9 * openness)
        marrow = self.diploe * ridge(depth + wall / 2, wall / 4 + 0.5)
        hu = brain * (1 - bone) + self.density * (1 - marrow) * bone
        beyond = -(depth + wall)
        outside = logistic(beyond / self.sharpness)
        skin = self.scalp_hu + 80 * ridge(beyond - self.scalp + 1.2, 1.0)
        hu = hu * (1 - outside) + skin * outside
        centre, width, height = self.swelling
        angle = np.arctan2(places.y, places.x)
        lump = height * ridge(np.arctan2(np.sin(angle - centre), np.cos(angle - centre)), width)
        inside_lump = logistic((lump - beyond) / 0.8) * outside
        hu = hu * (1 - inside_lump) + 55 * inside_lump
        air = logistic((beyond - np.maximum(lump, self.scalp)) / 0.6)
        hu = hu * (1 - air) + self._around(places, angle) * air
        return np.asarray(hu, dtype=np.float32)

    def _around(self, places: Places, angle: FloatArray) -> FloatArray:
        """Return HU of what surrounds the head: air, and the head holder behind it."""
        gap, thickness, density, half_angle = self.holder
        distance = np.hypot(places.x, places.y) - (self.half_length + gap)
        shell = logistic((thickness / 2 - np.abs(distance)) / 0.5)
        shell = shell * logistic((half_angle - np.abs(angle - math.pi / 2)) / 0.03)
        return np.asarray(-1000 + (density + 1000) * shell, dtype=np.float32)
