"""Intracranial hemorrhage painted into head phantoms: the five subtypes of the RSNA 2019 set."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import numpy as np

from .blood import (
    AlongTheTentorium,
    BesideTheFalx,
    InTheCisterns,
    InTheTissue,
    InTheVentricles,
    Shape,
    UnderTheSkull,
)
from .fields import Ellipsoid, FloatArray, SmoothField, between, chance, logistic
from .head import HeadSlice, Push

_EXTENT = (170.0, 300.0, 300.0)


class Extents(Protocol):
    """How large the inside of a head is, in mm."""

    @property
    def half_width(self) -> float:
        """From the middle to the left."""
        ...

    @property
    def half_length(self) -> float:
        """From the middle to the back."""
        ...

    @property
    def vertex(self) -> float:
        """From the middle to the top."""
        ...


class BleedType(StrEnum):
    """Where the blood is, named as in the RSNA 2019 data set."""

    EPIDURAL = "epidural"
    INTRAPARENCHYMAL = "intraparenchymal"
    INTRAVENTRICULAR = "intraventricular"
    SUBARACHNOID = "subarachnoid"
    SUBDURAL = "subdural"


@dataclass(frozen=True, slots=True)
class Mixture:
    """Blood that has not clotted, or has begun to dissolve.

    Attributes
    ----------
    less : float
        By how many HU it is less dense.
    level : float or None
        In mm: what lies in front of it (y below `level`) is less dense, as where cells have sunk;
        None for swirls all over.
    softness : float
        Of the border, in mm.
    """

    less: float
    level: float | None
    softness: float

    def lack(self, head: HeadSlice, texture: FloatArray) -> FloatArray:
        """Return by how much the blood is less dense in every pixel, HU."""
        if self.level is None:
            return self.less * logistic(3 * texture)
        return self.less * logistic((self.level - head.places.y) / self.softness)


@dataclass(frozen=True, slots=True)
class Bleed:
    """Blood of one subtype in a head.

    Attributes
    ----------
    density : float
        HU; `mottle` HU of it vary.
    mixture : Mixture or None
        Where it is less dense.
    oedema : Ellipsoid or None
        A dark rim around it.
    push : Push or None
        What it does to ventricles and midline.
    """

    kind: BleedType
    shape: Shape
    density: float
    mottle: float
    texture: SmoothField
    oedema: Ellipsoid | None = None
    push: Push | None = None
    mixture: Mixture | None = None

    def paint(self, head: HeadSlice) -> tuple[HeadSlice, FloatArray]:
        """Return the slice with the blood in it, and the share of blood in every pixel."""
        hu = head.hu
        if self.oedema is not None:
            places = head.places
            dark = 0.8 * self.oedema.weight(places.x, places.y, places.z) * head.brain
            hu = np.where(hu < 80, hu + np.minimum(0, 17 - hu) * dark, hu)
        cover = self.shape.cover(head) * head.brain
        texture = self.texture.plane(head.height, head.grid.y, head.grid.x)
        blood = self.density + self.mottle * texture
        if self.mixture is not None:
            blood = blood - self.mixture.lack(head, texture)
        hu = hu * (1 - cover) + blood * cover
        return replace(head, hu=hu.astype(np.float32)), cover.astype(np.float32)


def draw_bleed(
    rng: np.random.Generator,
    head: Extents,
    kind: BleedType,
    height: float,
    size: float = 0.0,
    *,
    varied: bool = False,
) -> Bleed:
    """Draw a bleed of `kind` about `height` (mm).

    Parameters
    ----------
    size : float
        0 draws from small to large, 1 only large ones.
    varied : bool
        Whether blood may also be faint, layered, of mixed density, or as bright as bone under the
        window of the brain, and lie along the tentorium.
    """
    if varied:
        return _varied(rng, head, kind, height, size)
    ripple = SmoothField.draw(rng, 12.0, _EXTENT)
    texture = SmoothField.draw(rng, between(rng, 3, 9), _EXTENT)
    shape, oedema, push = _DRAW[kind](rng, head, height, size, ripple)
    low = 48.0 + 12 * size
    return Bleed(kind, shape, between(rng, low, 82), between(rng, 1, 6), texture, oedema, push)


def _varied(
    rng: np.random.Generator, head: Extents, kind: BleedType, height: float, size: float
) -> Bleed:
    ripple = SmoothField.draw(rng, between(rng, 8, 16), _EXTENT)
    texture = SmoothField.draw(rng, between(rng, 1.5, 9), _EXTENT)
    draw = _DRAW[kind]
    if kind is BleedType.SUBDURAL and chance(rng, 0.12):
        draw = _tentorial
    shape, oedema, push = draw(rng, head, height, size, ripple)
    density = between(rng, 50, 82) if chance(rng, 0.85) else between(rng, 82, 98)
    mixture = None
    if kind is BleedType.SUBDURAL and chance(rng, 0.12):
        density = between(rng, 32, 50)  # some days old, or anaemia: as dense as the cortex
    elif kind in _MIXED and chance(rng, 0.3):
        level = between(rng, -20, 20) if chance(rng, 0.5) else None
        mixture = Mixture(between(rng, 8, 40), level, between(rng, 1, 10))
    return Bleed(kind, shape, density, between(rng, 1, 6), texture, oedema, push, mixture)


_MIXED = (BleedType.SUBDURAL, BleedType.EPIDURAL, BleedType.INTRAPARENCHYMAL)

_Drawn = tuple[Shape, Ellipsoid | None, Push | None]


def _grown(rng: np.random.Generator, low: float, high: float, size: float) -> float:
    return between(rng, low + 0.5 * size * (high - low), high)


def _side_direction(rng: np.random.Generator) -> float:
    """Draw an angle that is mostly lateral, sometimes frontal or occipital."""
    lateral = 0.0 if chance(rng, 0.5) else math.pi
    return lateral + float(rng.normal(0, 0.7))


def _push(
    rng: np.random.Generator, head: Extents, direction: float, height: float, thickness: float
) -> Push | None:
    if not chance(rng, 0.7):
        return None
    width, length = head.half_width, head.half_length
    centre = (width * math.cos(direction), length * math.sin(direction), height)
    return Push(centre, between(rng, 40, 70), thickness * between(rng, 0.2, 0.8))


def _epidural(
    rng: np.random.Generator, head: Extents, height: float, size: float, ripple: SmoothField
) -> _Drawn:
    direction = _side_direction(rng)
    half_arc = _grown(rng, 14, 46, size)
    thickness = min(34.0, half_arc * between(rng, 0.35, 0.75))
    shape = UnderTheSkull(
        direction,
        height,
        half_arc,
        half_arc * between(rng, 0.7, 1.1),
        thickness,
        1.0,
        False,
        ripple,
    )
    return shape, None, _push(rng, head, direction, height, thickness)


def _subdural(
    rng: np.random.Generator, head: Extents, height: float, size: float, ripple: SmoothField
) -> _Drawn:
    if size < 0.5 and chance(rng, 0.15):
        back = between(rng, -80, 30)
        falx = BesideTheFalx(
            1 if chance(rng, 0.5) else -1,
            (back, back + between(rng, 30, 80)),
            (max(20.0, height) - between(rng, 4, 25), max(20.0, height) + between(rng, 4, 25)),
            between(rng, 2.5, 6),
        )
        return falx, None, None
    direction = _side_direction(rng)
    thickness = _grown(rng, 2.8, 15, size)
    shape = UnderTheSkull(
        direction,
        height,
        _grown(rng, 35, 110, size),
        between(rng, 20, 55),
        thickness,
        between(rng, 1.8, 3.0),
        True,
        ripple,
    )
    return shape, None, _push(rng, head, direction, height, thickness)


def _tentorial(
    rng: np.random.Generator, head: Extents, height: float, size: float, ripple: SmoothField
) -> _Drawn:
    shape = AlongTheTentorium(
        1 if chance(rng, 0.5) else -1,
        between(rng, 0.05, 0.4) * head.half_length,
        between(rng, 0.4, 1.2),
        between(rng, 25, 60),
        between(rng, 2.5, 7),
        height,
    )
    return shape, None, None


def _intraparenchymal(
    rng: np.random.Generator, head: Extents, height: float, size: float, ripple: SmoothField
) -> _Drawn:
    radius = _grown(rng, 4, 28, size)
    angle = between(rng, 0, 2 * math.pi)
    reach = between(rng, 0.25, 0.8) * math.sqrt(max(0.1, 1 - (height / head.vertex) ** 2))
    centre = (
        head.half_width * reach * math.cos(angle),
        head.half_length * reach * math.sin(angle),
        height,
    )
    axes = (radius, radius * between(rng, 0.6, 1), radius * between(rng, 0.7, 1.1))
    turn = between(rng, 0, math.pi)
    ragged = radius * between(rng, 0.05, 0.3)
    shape = InTheTissue(Ellipsoid(centre, axes, turn, between(rng, 0.8, 2)), ragged, ripple)
    oedema = None
    if chance(rng, 0.75):
        grown = between(rng, 1.2, 1.6)
        wide = (axes[0] * grown, axes[1] * grown, axes[2] * grown)
        oedema = Ellipsoid(centre, wide, turn, 4)
    push = Push(centre, 2.5 * radius + 10, radius * between(rng, 0, 0.4))
    return shape, oedema, push


def _intraventricular(
    rng: np.random.Generator, head: Extents, height: float, size: float, ripple: SmoothField
) -> _Drawn:
    whole = chance(rng, 0.3 + 0.5 * size)
    surface = -200.0 if whole else between(rng, -0.3, 0.35) * head.half_length
    side = 0 if chance(rng, 0.6 + 0.4 * size) else (1 if chance(rng, 0.5) else -1)
    return InTheVentricles(surface, side), None, None


def _subarachnoid(
    rng: np.random.Generator, head: Extents, height: float, size: float, ripple: SmoothField
) -> _Drawn:
    if size > 0.5 or chance(rng, 0.4):  # an aneurysm: the basal cisterns
        centre, reach = (0.0, -0.1 * head.half_length, -20.0), between(rng, 45, 90)
    else:
        angle = between(rng, 0, 2 * math.pi)
        centre = (
            0.75 * head.half_width * math.cos(angle),
            0.75 * head.half_length * math.sin(angle),
            height,
        )
        reach = between(rng, 22, 55)
    region = Ellipsoid(centre, (reach, reach, 0.7 * reach), 0, 8)
    return InTheCisterns(region, between(rng, 1.2, 2.2)), None, None


_DRAW = {
    BleedType.EPIDURAL: _epidural,
    BleedType.INTRAPARENCHYMAL: _intraparenchymal,
    BleedType.INTRAVENTRICULAR: _intraventricular,
    BleedType.SUBARACHNOID: _subarachnoid,
    BleedType.SUBDURAL: _subdural,
}
