"""Where blood lies in a head: the shapes of the five kinds of intracranial hemorrhage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .fields import Ellipsoid, FloatArray, SmoothField, logistic
from .head import HeadSlice


class Shape(Protocol):
    """Where blood is in a slice."""

    def cover(self, head: HeadSlice) -> FloatArray:
        """Return the share of blood in every pixel of `head`, 0 to 1."""
        ...


@dataclass(frozen=True, slots=True)
class UnderTheSkull:
    """Blood along the inner table: a lens (epidural) or a crescent (subdural).

    Attributes
    ----------
    direction : float
        Angle in radians at which it is centred.
    half_arc, half_height, thickness : float
        In mm.
    roundness : float
        1 makes a lens whose thickness falls from the middle on; large values a crescent.
    one_side : bool
        Whether it stops at the midline, as subdural blood does at the falx.
    """

    direction: float
    height: float
    half_arc: float
    half_height: float
    thickness: float
    roundness: float
    one_side: bool
    ripple: SmoothField

    def cover(self, head: HeadSlice) -> FloatArray:
        """Return the share of blood in every pixel."""
        places = head.places
        turn = np.arctan2(places.y, places.x) - self.direction
        arc = np.arctan2(np.sin(turn), np.cos(turn)) * np.hypot(places.x, places.y)
        along = np.power(np.abs(arc / self.half_arc), 2 * self.roundness)
        up = np.square((places.z - self.height) / self.half_height)
        profile = np.clip(1 - along - up, 0, None) ** (1 / self.roundness)
        ripple = 1 + 0.12 * self.ripple.plane(head.height, head.grid.y, head.grid.x)
        cover = logistic((self.thickness * profile * ripple - head.depth) / 0.7) * (profile > 0)
        if self.one_side:
            cover = cover * logistic(head.off_midline * math.copysign(1, math.cos(self.direction)))
        return np.asarray(cover, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class BesideTheFalx:
    """Subdural blood along the falx, on one `side` (-1 right, 1 left)."""

    side: int
    back: tuple[float, float]
    heights: tuple[float, float]
    thickness: float

    def cover(self, head: HeadSlice) -> FloatArray:
        """Return the share of blood in every pixel."""
        places, off = head.places, head.off_midline * self.side
        along = logistic((places.y - self.back[0]) / 2) * logistic((self.back[1] - places.y) / 2)
        up = logistic((places.z - self.heights[0]) / 2) * logistic((self.heights[1] - places.z) / 2)
        cover = logistic((self.thickness - off) / 0.7) * logistic((off + 0.8) / 0.5) * along * up
        return np.asarray(cover, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class AlongTheTentorium:
    """Subdural blood on the tentorium: a band that leads from the middle back and outwards.

    Attributes
    ----------
    side : int
        -1 right, 1 left.
    start : float
        Where it leaves the midline, in mm behind the middle; it falls back by `slope` mm for each
        mm outwards.
    reach, thickness : float
        In mm.
    """

    side: int
    start: float
    slope: float
    reach: float
    thickness: float
    height: float

    def cover(self, head: HeadSlice) -> FloatArray:
        """Return the share of blood in every pixel."""
        out = head.off_midline * self.side
        off = np.abs(head.places.y - (self.start + self.slope * out))
        band = logistic((self.thickness - 0.8 * off) / 2)
        along = logistic((out - 4) / 1.5) * logistic((self.reach - out) / 2)
        near = logistic((12 - np.abs(head.places.z - self.height)) / 2)
        return np.asarray(band * along * near, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class InTheTissue:
    """An irregular clot in the parenchyma."""

    core: Ellipsoid
    raggedness: float
    ripple: SmoothField

    def cover(self, head: HeadSlice) -> FloatArray:
        """Return the share of blood in every pixel."""
        wave = self.raggedness * self.ripple.plane(head.height, head.grid.y, head.grid.x)
        places = head.places
        return self.core.weight(places.x + wave, places.y - wave, places.z)


@dataclass(frozen=True, slots=True)
class InTheVentricles:
    """Blood in CSF of the ventricles: a level behind `surface`, or one side, or everywhere."""

    surface: float
    side: int

    def cover(self, head: HeadSlice) -> FloatArray:
        """Return the share of blood in every pixel."""
        cover = np.clip(1.3 * head.ventricles, 0, 1) * logistic(head.places.y - self.surface)
        if self.side:
            cover = cover * logistic(self.side * head.off_midline / 1.5)
        return np.asarray(cover, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class InTheCisterns:
    """Blood in sulci and cisterns around a centre."""

    region: Ellipsoid
    amount: float

    def cover(self, head: HeadSlice) -> FloatArray:
        """Return the share of blood in every pixel."""
        places = head.places
        near = self.region.weight(places.x, places.y, places.z)
        return np.asarray(np.clip(self.amount * head.fluid, 0, 1) * near, dtype=np.float32)
