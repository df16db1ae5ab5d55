"""Where the head is in a CT slice, and whether there is brain in it.

Scanners and pictures differ in how much of them the head fills, by a factor of two; a network that
always sees the head at one size need not learn that. And a network that only ever saw heads says
something of everything: what is no head is told by its look, before anybody believes the network.
Light: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .area_means import area_means
from .connected import parts_of
from .placement import Box
from .windows import V

# Brain and bone, in HU: what a brain window shows grey or white. Fat and air are black there, also
# in a picture that holds nothing but the greys of that window.
_BLACK, _WHITE = 0.0, 80.0
# How grey, of 1, a place must be on average to belong to something.
_GREY = 0.15
# Places along the longer side of the grid in which parts are told from each other.
_GRID = 96
# What is kept around the head, as a share of its longer side.
_MARGIN = 0.02
# Less of the grid than this share is no head: letters, or a headrest.
_LEAST = 0.01

# Cells along a side of the head in which its look is judged: each averages many pixels' noise.
_CELLS = 72
# From here on it is bone; less than the second is no skull, be it the densest that there is.
_BONE, _LEAST_BONE = 120.0, 60.0
# Share of the head's box that bone must enclose.
_LEAST_INSIDE = 0.15
# Density of brain in the middle of its values, and of nearly all that is inside a skull.
_BRAIN, _SOFT, _LEAST_SOFT = (12.0, 58.0), (-12.0, 100.0), 0.85
# HU between the 2nd and the 98th of a hundred cells: water alone has less, brain has fluid too.
_LEAST_CONTRAST = 5.0


def head_boxes(hu: NDArray[np.float32]) -> list[Box]:
    """Return where the largest connected part is that is not air or fat.

    A headrest and burned-in letters are parts of their own, unless they touch the head.

    Parameters
    ----------
    hu : ndarray of float32, (slices, rows, columns)
        Hounsfield units.

    Returns
    -------
    list of (int, int, int, int)
        Top, left, bottom and right of each, a margin of 2 % included; the whole slice where
        there is no such part.
    """
    rows, columns = int(hu.shape[-2]), int(hu.shape[-1])
    grid = grid_of(rows, columns)
    return [box_of(area_means(greys(one), grid), (rows, columns)) for one in hu]


def grid_of(rows: int, columns: int) -> tuple[int, int]:
    """Return the grid in which the parts of a slice are told from each other."""
    scale = _GRID / max(rows, columns)
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def greys(hu: V) -> V:
    """Return how grey, 0 to 1, each pixel of slices is under the window of the brain."""
    return ((hu - _BLACK) / (_WHITE - _BLACK)).clip(0.0, 1.0)


def box_of(grey: NDArray[np.float32], shape: tuple[int, int]) -> Box:
    """Return where the head is in a slice of `shape`, by the means of `greys` over its grid."""
    found = parts_of(grey > _GREY).largest()
    if found is None or found[0] < _LEAST * grey.size:
        return 0, 0, *shape
    return _in_pixels(found[1], (grey.shape[0], grey.shape[1]), shape)


@dataclass(frozen=True, slots=True)
class Look:
    """What a slice looks like.

    Attributes
    ----------
    skull : bool
        Whether bone encloses a good part of it.
    brain : bool
        Whether what it encloses has the density of brain, and the differences of tissue and fluid.
    """

    skull: bool
    brain: bool


def looks(hu: NDArray[np.float32]) -> list[Look]:
    """Tell of each slice whether a skull is there, and brain in it.

    Parameters
    ----------
    hu : ndarray of float32, (slices, rows, columns)
        Hounsfield units.
    """
    return [_look(one, box) for one, box in zip(hu, head_boxes(hu), strict=True)]


def _look(hu: NDArray[np.float32], box: Box) -> Look:
    top, left, bottom, right = box
    cells = area_means(hu[top:bottom, left:right].clip(-1000.0, 1000.0), (_CELLS, _CELLS))
    # A picture of a window holds nothing denser than its white.
    least = min(_BONE, 0.85 * float(cells.max()))
    bone = _grown(cells > least)
    if least < _LEAST_BONE:
        return Look(skull=False, brain=False)
    inside = _enclosed(~bone)
    if float(inside.mean()) < _LEAST_INSIDE:
        return Look(skull=False, brain=False)
    # Cells beside bone hold some of it.
    found = cells[inside & ~_grown(bone)]
    if not len(found):
        return Look(skull=True, brain=False)
    low, middle, high = np.quantile(found, (0.02, 0.5, 0.98))
    soft = float(((found > _SOFT[0]) & (found < _SOFT[1])).mean())
    like_brain = _BRAIN[0] <= float(middle) <= _BRAIN[1] and soft >= _LEAST_SOFT
    return Look(skull=True, brain=like_brain and float(high - low) >= _LEAST_CONTRAST)


def _grown(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return cells, (rows, columns), with all that are beside or at a corner of one."""
    grown = cells.copy()
    grown[1:] |= cells[:-1]
    grown[:-1] |= cells[1:]
    across = grown.copy()
    grown[:, 1:] |= across[:, :-1]
    grown[:, :-1] |= across[:, 1:]
    return grown


def _enclosed(free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which free cells, (rows, columns), cannot be reached from the edge."""
    padded = np.pad(free, 1, constant_values=True)
    parts = parts_of(padded)
    outside = parts.mask(int(parts.part[0]), padded.shape)[1:-1, 1:-1]
    return free & ~outside


def _in_pixels(box: Box, grid: tuple[int, int], shape: tuple[int, int]) -> Box:
    """Return a box of the grid in pixels, with its margin, inside the slice."""
    down, across = shape[0] / grid[0], shape[1] / grid[1]
    top, left, bottom, right = box[0] * down, box[1] * across, box[2] * down, box[3] * across
    margin = _MARGIN * max(bottom - top, right - left)
    return (
        max(0, round(top - margin)),
        max(0, round(left - margin)),
        min(shape[0], round(bottom + margin)),
        min(shape[1], round(right + margin)),
    )
