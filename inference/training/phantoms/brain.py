"""What lies inside the skull of a head phantom: where each structure is.

Lengths in mm in head coordinates (left, back, up); z = 0 is the level of the third ventricle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .fields import Ellipsoid, SmoothField, between, chance
from .skull import Skull

_EXTENT = (170.0, 300.0, 300.0)
_SIDES = (-1, 1)


@dataclass(frozen=True, slots=True)
class Tissue:
    """Densities in HU and how the brain has aged (0 young, 1 marked atrophy)."""

    white: float
    gray: float
    fluid: float
    falx: float
    atrophy: float
    hardening: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Tissue:
        """Draw tissue of an adult on some scanner."""
        white = between(rng, 22, 31)
        return cls(
            white=white,
            gray=white + between(rng, 4, 14),
            fluid=between(rng, 2, 11),
            falx=between(rng, 40, 64),
            atrophy=float(rng.random() ** 1.5),
            hardening=between(rng, 0, 9),
        )


@dataclass(frozen=True, slots=True)
class Textures:
    """Random fields of one head: folds of the cortex, waviness, slow variation."""

    folds: SmoothField
    fine_folds: SmoothField
    presence: SmoothField
    slow: SmoothField
    waviness: SmoothField

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Textures:
        """Draw the fields."""
        return cls(
            folds=SmoothField.draw(rng, between(rng, 6.5, 10.0), _EXTENT),
            fine_folds=SmoothField.draw(rng, 5.0, _EXTENT),
            presence=SmoothField.draw(rng, 28.0, _EXTENT),
            slow=SmoothField.draw(rng, 20.0, _EXTENT),
            waviness=SmoothField.draw(rng, 14.0, _EXTENT),
        )


@dataclass(frozen=True, slots=True)
class Brain:
    """The structures of one head.

    Attributes
    ----------
    half_width, half_length : float
        Of the inside of the skull at its widest, in mm.
    bend : tuple of float
        Offset, slope and bow of the midline.
    pale : float
        How much darker than white matter it is around the ventricles (old age), in HU.
    spots : tuple of (Ellipsoid, float)
        Small or large lesions that are not blood, with their HU: calcifications, old infarcts.
    """

    tissue: Tissue
    textures: Textures
    half_width: float
    half_length: float
    bend: tuple[float, float, float]
    ventricles: tuple[Ellipsoid, ...]
    cisterns: tuple[Ellipsoid, ...]
    nuclei: tuple[Ellipsoid, ...]
    pale: float
    base_bones: tuple[Ellipsoid, ...]
    air_cells: tuple[Ellipsoid, ...]
    spots: tuple[tuple[Ellipsoid, float], ...]
    fold_depth: float
    fold_width: float
    tentorium: tuple[float, float, float]
    sinus: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator, skull: Skull) -> Brain:
        """Draw a brain that fits `skull`."""
        tissue = Tissue.draw(rng)
        width = skull.half_width - skull.thickness
        length = skull.half_length - skull.thickness
        return cls(
            tissue=tissue,
            textures=Textures.draw(rng),
            half_width=width,
            half_length=length,
            bend=(between(rng, -1.5, 1.5), between(rng, -0.02, 0.02), between(rng, -1.5, 1.5)),
            ventricles=_ventricles(rng, width, length, tissue.atrophy),
            cisterns=_cisterns(rng, width, length, tissue.atrophy),
            nuclei=_nuclei(rng, width, length),
            pale=between(rng, 0, 9) if chance(rng, 0.5) else 0.0,
            base_bones=_base_bones(rng, width, length),
            air_cells=_air_cells(rng, width, length),
            spots=_spots(rng, width, length),
            fold_depth=between(rng, 9, 22),
            fold_width=between(rng, 0.12, 0.35) + 0.4 * tissue.atrophy,
            tentorium=(between(rng, 0.5, 1.0), between(rng, 0.8, 1.8), between(rng, 0.1, 0.9)),
            sinus=(between(rng, 2.0, 5.0), between(rng, 38, 68)),
        )


def _ventricles(
    rng: np.random.Generator, wide: float, long: float, atrophy: float
) -> tuple[Ellipsoid, ...]:
    size = between(rng, 0.6, 1.4) + 0.9 * max(0.0, atrophy - 0.4)
    shapes = [
        Ellipsoid((0, 0, -2), (0.033 * wide * size + 0.4, 0.14 * long, 11)),
        Ellipsoid((0, 0.44 * long, -36), (0.11 * wide * size, 0.06 * long * size, 9)),
    ]
    horn, tail, lean = between(rng, 0.2, 0.45), between(rng, 0.2, 0.5), between(rng, 0.1, 0.3)
    for side in _SIDES:
        k = size * between(rng, 0.8, 1.2)
        shapes += [
            Ellipsoid(
                (side * (0.13 * wide + 2 * k), -0.27 * long, 9),
                (0.08 * wide * k, 0.18 * long, 12),
                side * horn,
            ),
            Ellipsoid(
                (side * (0.17 * wide + 3 * k), 0, 22),
                (0.09 * wide * k, 0.38 * long, 9),
                side * lean,
            ),
            Ellipsoid(
                (side * 0.36 * wide, 0.33 * long, 8),
                (0.08 * wide * k, 0.2 * long, 13),
                -side * tail,
            ),
        ]
        if chance(rng, 0.7):
            temporal = (0.045 * wide * k, 0.13 * long * k, 5.0)
            shapes.append(Ellipsoid((side * 0.5 * wide, 0.1 * long, -19), temporal, -side * 0.5))
    return tuple(shapes)


def _cisterns(
    rng: np.random.Generator, wide: float, long: float, atrophy: float
) -> tuple[Ellipsoid, ...]:
    size = between(rng, 0.5, 1.2) + 0.4 * atrophy
    front = -between(rng, 0.02, 0.12) * long
    shapes = [Ellipsoid((0, front, -24), (0.1 * wide * size, 0.09 * wide * size, 9))]
    for arm in range(5):
        angle = -math.pi / 2 + arm * 2 * math.pi / 5 + between(rng, -0.12, 0.12)
        reach = wide * between(rng, 0.2, 0.34)
        centre = (math.cos(angle) * reach / 2, front + math.sin(angle) * reach / 2, -24.0)
        shapes.append(Ellipsoid(centre, (0.55 * reach, 2.2 * size, 8), angle))
    for side in _SIDES:
        around = Ellipsoid(
            (side * 0.24 * wide, 0.2 * long, -20), (1.6 * size, 0.12 * long, 10), side * 0.5
        )
        lean = side * between(rng, -0.2, 0.5)
        sylvian = Ellipsoid(
            (side * between(rng, 0.52, 0.62) * wide, -0.12 * long, -4),
            (between(rng, 0.9, 1.8) + 2.5 * atrophy * between(rng, 0, 1), 0.2 * long, 20),
            lean,
        )
        outward = Ellipsoid(
            (side * 0.75 * wide, between(rng, -0.25, -0.1) * long, -8),
            (0.18 * wide, between(rng, 1.0, 2.2) + atrophy, 12),
            side * 0.25,
        )
        shapes += [around, sylvian, outward]
    shapes.append(Ellipsoid((0, 0.27 * long, -16), (0.12 * wide, 2.5 * size, 7)))
    return tuple(shapes)


def _nuclei(rng: np.random.Generator, wide: float, long: float) -> tuple[Ellipsoid, ...]:
    shapes = []
    for side in _SIDES:
        shapes += [
            Ellipsoid(
                (side * 0.22 * wide, 0.1 * long, 3), (0.13 * wide, 0.14 * long, 12), side * 0.35, 3
            ),
            Ellipsoid(
                (side * 0.37 * wide, -0.08 * long, 3),
                (0.1 * wide, 0.17 * long, 13),
                -side * 0.25,
                3,
            ),
            Ellipsoid(
                (side * 0.16 * wide, -0.26 * long, 6), (0.06 * wide, 0.1 * long, 12), side * 0.3, 3
            ),
        ]
    if chance(rng, 0.5):
        shapes.append(Ellipsoid((0, 0.45 * long, -38), (0.5 * wide, 0.28 * long, 16), 0, 5))
    return tuple(shapes)


def _base_bones(rng: np.random.Generator, wide: float, long: float) -> tuple[Ellipsoid, ...]:
    shapes = []
    level = between(rng, -44, -34)
    for side in _SIDES:
        size = between(rng, 0.7, 1.3)
        lean = -side * between(rng, 0.4, 0.9)
        petrous = (0.4 * wide * size, 0.1 * wide * size, 9.0)
        centre = (side * between(rng, 0.6, 0.75) * wide, between(rng, -0.02, 0.16) * long, level)
        shapes.append(Ellipsoid(centre, petrous, lean, between(rng, 1.2, 4)))
        wing = (0.45 * wide * size, 0.07 * wide, 6.0)
        centre = (side * 0.65 * wide, -between(rng, 0.3, 0.45) * long, level + 8)
        shapes.append(Ellipsoid(centre, wing, side * between(rng, 0.0, 0.6), between(rng, 1.2, 4)))
        roof = (0.33 * wide, 0.2 * long, between(rng, 3, 6))
        centre = (side * 0.38 * wide, -0.72 * long, level + between(rng, -6, 6))
        shapes.append(Ellipsoid(centre, roof, 0, between(rng, 1.5, 4)))
    sella = (between(rng, 0.1, 0.2) * wide, between(rng, 0.08, 0.2) * wide, 9.0)
    shapes.append(Ellipsoid((0, -0.15 * long, level), sella, 0, 2))
    shapes.append(Ellipsoid((0, 0.02 * long, level - 10), (0.2 * wide, 0.2 * long, 12), 0, 3))
    return tuple(shapes)


def _air_cells(rng: np.random.Generator, wide: float, long: float) -> tuple[Ellipsoid, ...]:
    shapes = []
    for side in _SIDES:
        for _ in range(int(rng.integers(2, 6))):
            centre = (
                side * between(rng, 0.7, 0.95) * wide,
                between(rng, 0.1, 0.3) * long,
                between(rng, -58, -38),
            )
            shapes.append(Ellipsoid(centre, (between(rng, 1, 4), between(rng, 1, 4), 4), 0, 0.7))
    if chance(rng, 0.8):
        frontal = (between(rng, 6, 18), between(rng, 3, 7), between(rng, 8, 18))
        shapes.append(Ellipsoid((between(rng, -6, 6), -0.99 * long, -34), frontal, 0, 0.7))
    if chance(rng, 0.8):
        sphenoid = (between(rng, 6, 14), between(rng, 6, 12), 7.0)
        shapes.append(Ellipsoid((between(rng, -4, 4), -0.22 * long, -48), sphenoid, 0, 0.7))
    return tuple(shapes)


def _spots(
    rng: np.random.Generator, wide: float, long: float
) -> tuple[tuple[Ellipsoid, float], ...]:
    spots: list[tuple[Ellipsoid, float]] = []

    def dot(x: float, y: float, z: float, size: float) -> None:
        axes = (size, size * between(rng, 0.6, 1.6), max(2.0, size))
        spots.append((Ellipsoid((x, y, z), axes, between(rng, 0, 3), 0.8), between(rng, 80, 330)))

    if chance(rng, 0.6):
        dot(between(rng, -2, 2), between(rng, 0.16, 0.24) * long, 2, between(rng, 0.8, 2.8))
    if chance(rng, 0.55):
        size = between(rng, 1.0, 2.8)
        for side in _SIDES:
            dot(side * 0.34 * wide, 0.33 * long, between(rng, 4, 14), size * between(rng, 0.6, 1.3))
    if chance(rng, 0.15):
        for side in _SIDES:
            dot(side * 0.36 * wide, -0.08 * long, 2, between(rng, 1, 2.5))
    if chance(rng, 0.2):
        dot(0, -between(rng, 0.4, 0.8) * long, between(rng, 20, 60), between(rng, 0.8, 2.5))
    for _ in range(int(rng.integers(0, 4))):  # arteries at the base
        place = (
            between(rng, -0.4, 0.4) * wide,
            between(rng, -0.25, 0.1) * long,
            between(rng, -34, -18),
        )
        vessel = Ellipsoid(place, (1.4, between(rng, 1.5, 5), 3), between(rng, 0, 3), 0.8)
        spots.append((vessel, between(rng, 40, 58)))
    for _ in range(int(rng.integers(1, 3)) if chance(rng, 0.4) else 0):  # old infarcts, oedema
        angle, reach = between(rng, 0, 2 * math.pi), between(rng, 0.3, 0.9)
        place = (
            math.cos(angle) * reach * wide,
            math.sin(angle) * reach * long,
            between(rng, -20, 50),
        )
        axes = (between(rng, 6, 26), between(rng, 6, 26), between(rng, 8, 24))
        spots.append((Ellipsoid(place, axes, between(rng, 0, 3), 5), between(rng, 8, 22)))
    return tuple(spots)
