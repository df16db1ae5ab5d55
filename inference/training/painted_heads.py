"""Slices to learn hemorrhage from: blood painted on real and on drawn heads, with masks.

Most slices with blood have a twin, the same in everything but the blood, so that nothing else
tells them apart; and there are slices on which nothing is painted, the base, the face and the
vertex among them, because that is where a reader that never saw them raises alarms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .phantoms import BleedType, Grid, Head, Scanner, draw_bleed
from .phantoms.backgrounds import SIZE, SPACING_MM, Background, Warp
from .phantoms.bleeds import Bleed
from .phantoms.fields import FloatArray, between, chance
from .phantoms.head import HeadSlice

KINDS = tuple(BleedType)
# Maps of blood are kept with a quarter of the rows and columns.
MASK_SIZE = SIZE // 4
# Blood that covers less is a trace that nobody could see: such slices are not used.
_VISIBLE_MM2 = 25.0
_TRACE = 0.25
# How often each kind is painted; the kinds that are hard to see more often.
_SHARES = (0.19, 0.22, 0.18, 0.21, 0.20)
# From the upper neck to the vertex, in mm; and where there is brain to paint on.
_HEIGHTS, _BRAIN_HEIGHTS = (-85.0, 90.0), (-35.0, 62.0)
_TRIES = 12


@dataclass(frozen=True, slots=True, eq=False)
class PaintedSlice:
    """One slice with what is in it.

    Attributes
    ----------
    hu : ndarray of int16, (256, 256)
    masks : ndarray of uint8, (5, 64, 64)
        Share of blood times 255, by kind in the order of the alphabet.
    labels : tuple of int
        0 or 1 for each kind.
    ground : str
        What it was painted on: the name of a `Background`, or ``drawn``.
    """

    hu: NDArray[np.int16]
    masks: NDArray[np.uint8]
    labels: tuple[int, ...]
    ground: str


def draw_slices(
    seed: int, grounds: Sequence[Background], real_share: float = 0.5
) -> list[PaintedSlice]:
    """Draw a slice and, if it bleeds, mostly its twin; or a slice on which nothing is painted.

    Parameters
    ----------
    seed : int
        The same seed and grounds give the same slices.
    grounds : sequence of Background
        Real slices; with none all heads are drawn.
    real_share : float
        Share (0 to 1) of slices on real ground.

    Returns
    -------
    list of PaintedSlice
        One or two.
    """
    rng = np.random.default_rng([seed, 21])
    for _ in range(_TRIES):
        real = bool(grounds) and chance(rng, real_share)
        drawn = _on_real(rng, grounds) if real else _on_drawn(rng)
        if drawn is not None:
            return drawn
    return _on_drawn(rng, painted=False) or []


def _on_real(rng: np.random.Generator, grounds: Sequence[Background]) -> list[PaintedSlice] | None:
    # What can be painted on is wanted more often than the face and the vertex.
    weights = np.array([3.0 if ground.paintable else 1.0 for ground in grounds])
    ground = grounds[int(rng.choice(len(grounds), p=weights / weights.sum()))]
    warp = Warp.draw(rng, ground)
    bleeds = _bleeds(rng, warp, 0.0) if ground.paintable and chance(rng, 0.7) else ()
    push = next((bleed.push for bleed in bleeds if bleed.push), None)
    scanner, noise = _second_scanner(rng), int(rng.integers(2**31))
    return _finished(rng, warp.slice(push), bleeds, scanner, noise, ground.name)


def _on_drawn(rng: np.random.Generator, painted: bool | None = None) -> list[PaintedSlice] | None:
    head, scanner = Head.draw(rng), Scanner.draw(rng)
    bleeding = chance(rng, 0.7) if painted is None else painted
    height = between(rng, *(_BRAIN_HEIGHTS if bleeding else _HEIGHTS))
    bleeds = _bleeds(rng, head, height) if bleeding else ()
    push = next((bleed.push for bleed in bleeds if bleed.push), None)
    noise = int(rng.integers(2**31))
    ground = head.slice(Grid.centred(SIZE, SPACING_MM), height, push)
    return _finished(rng, ground, bleeds, scanner, noise, "drawn")


def _bleeds(rng: np.random.Generator, head: Head | Warp, height: float) -> tuple[Bleed, ...]:
    """Draw one bleed, often two, sometimes three, of different kinds."""
    count = int(rng.choice((1, 2, 3), p=(0.64, 0.27, 0.09)))
    kinds = rng.choice(len(KINDS), count, replace=False, p=_SHARES)
    bleeds = []
    for kind in (KINDS[int(index)] for index in kinds):
        several = int(rng.integers(2, 4)) if _scattered(rng, kind) else 1
        for _ in range(several):
            at = height + between(rng, -10, 10)
            size = 0.5 if chance(rng, 0.3) else 0.0
            bleeds.append(draw_bleed(rng, head, kind, at, size, varied=True))
    return tuple(bleeds)


def _scattered(rng: np.random.Generator, kind: BleedType) -> bool:
    return kind is BleedType.INTRAPARENCHYMAL and chance(rng, 0.2)


def _second_scanner(rng: np.random.Generator) -> Scanner:
    """Draw what is added to a slice that already went through a scanner: less of all."""
    drawn = Scanner.draw(rng)
    return Scanner(
        blur=between(rng, 0.05, 0.9) if chance(rng, 0.5) else 0.02,
        noise=between(rng, 0.0, 3.0) if chance(rng, 0.6) else 0.0,
        grain=drawn.grain,
        offset=drawn.offset,
        gain=drawn.gain,
        streak=drawn.streak,
        streak_angle=drawn.streak_angle,
    )


def _finished(
    rng: np.random.Generator,
    ground: HeadSlice,
    bleeds: Sequence[Bleed],
    scanner: Scanner,
    noise: int,
    name: str,
) -> list[PaintedSlice] | None:
    """Paint, let the scanner look at it, and at the twin; None if there is but a trace of blood."""
    covers = np.zeros((len(KINDS), *ground.hu.shape), np.float32)
    painted = ground
    for bleed in bleeds:
        painted, cover = bleed.paint(painted)
        index = KINDS.index(bleed.kind)
        covers[index] = np.maximum(covers[index], cover)
    areas = (covers > 0.5).sum(axis=(1, 2)) * SPACING_MM**2
    labels = tuple(int(area >= _VISIBLE_MM2) for area in areas)
    if not any(labels) and float(covers.max()) > _TRACE:
        return None

    def acquired(hu: FloatArray) -> NDArray[np.int16]:
        return scanner.acquire(hu, SPACING_MM, np.random.default_rng(noise))

    slices = [PaintedSlice(acquired(painted.hu), _small(covers), labels, name)]
    if any(labels) and chance(rng, 0.6):
        none = np.zeros((len(KINDS), MASK_SIZE, MASK_SIZE), np.uint8)
        slices.append(PaintedSlice(acquired(ground.hu), none, (0,) * len(KINDS), name))
    return slices


def _small(covers: FloatArray) -> NDArray[np.uint8]:
    cells = covers.reshape(len(covers), MASK_SIZE, 4, MASK_SIZE, 4)
    small: NDArray[np.uint8] = np.rint(cells.mean(axis=(2, 4)) * 255).astype(np.uint8)
    return small
