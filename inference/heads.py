"""Where the head is in a CT slice, and whether there is brain in it.

Scanners and pictures differ in how much of them the head fills, by a factor of two; a network that
always sees the head at one size need not learn that. And a network that only ever saw heads says
something of everything: what is no head is told by its look, before anybody believes the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from .connected import parts_of
from .placement import Box

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


def head_boxes(hu: torch.Tensor) -> list[Box]:
    """Return where the largest connected part is that is not air or fat.

    Runs where the slices are. A headrest and burned-in letters are parts of their own, unless they
    touch the head.

    Parameters
    ----------
    hu : Tensor of float32, (slices, rows, columns)
        Hounsfield units.

    Returns
    -------
    list of (int, int, int, int)
        Top, left, bottom and right of each, a margin of 2 % included; the whole slice where
        there is no such part.
    """
    rows, columns = hu.shape[-2:]
    scale = _GRID / max(rows, columns)
    grid = max(1, round(rows * scale)), max(1, round(columns * scale))
    grey = ((hu - _BLACK) / (_WHITE - _BLACK)).clamp(0.0, 1.0)
    there = F.adaptive_avg_pool2d(grey[:, None], grid)[:, 0] > _GREY
    boxes: list[Box] = []
    for one in there.cpu().numpy():
        found = parts_of(one).largest()
        if found is None or found[0] < _LEAST * one.size:
            boxes.append((0, 0, rows, columns))
        else:
            boxes.append(_in_pixels(found[1], grid, (rows, columns)))
    return boxes


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


def looks(hu: torch.Tensor) -> list[Look]:
    """Tell of each slice whether a skull is there, and brain in it.

    Parameters
    ----------
    hu : Tensor of float32, (slices, rows, columns)
        Hounsfield units.
    """
    return [_look(one, box) for one, box in zip(hu, head_boxes(hu), strict=True)]


def _look(hu: torch.Tensor, box: Box) -> Look:
    top, left, bottom, right = box
    part = hu[None, None, top:bottom, left:right].clamp(-1000.0, 1000.0)
    cells = F.adaptive_avg_pool2d(part, (_CELLS, _CELLS))[0, 0]
    # A picture of a window holds nothing denser than its white.
    least = min(_BONE, 0.85 * float(cells.max()))
    bone = F.max_pool2d((cells > least).float()[None], 3, 1, 1)[0] > 0
    if least < _LEAST_BONE:
        return Look(skull=False, brain=False)
    inside = _enclosed(~bone)
    if float(inside.float().mean()) < _LEAST_INSIDE:
        return Look(skull=False, brain=False)
    # Cells beside bone hold some of it.
    found = cells[inside & ~(F.max_pool2d(bone.float()[None], 3, 1, 1)[0] > 0)]
    if not len(found):
        return Look(skull=True, brain=False)
    low, middle, high = torch.quantile(found, torch.tensor([0.02, 0.5, 0.98], device=hu.device))
    soft = ((found > _SOFT[0]) & (found < _SOFT[1])).float().mean()
    like_brain = _BRAIN[0] <= float(middle) <= _BRAIN[1] and float(soft) >= _LEAST_SOFT
    return Look(skull=True, brain=like_brain and float(high - low) >= _LEAST_CONTRAST)


def _enclosed(free: torch.Tensor) -> torch.Tensor:
    """Return which free cells, (rows, columns), cannot be reached from the edge."""
    padded = np.pad(free.cpu().numpy(), 1, constant_values=True)
    parts = parts_of(padded)
    outside = parts.mask(int(parts.part[0]), padded.shape)[1:-1, 1:-1]
    return free & ~torch.from_numpy(outside).to(free.device)


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
