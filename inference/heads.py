"""Where the head is in a CT slice: the part of the picture that a reader of heads is shown.

Scanners and pictures differ in how much of them the head fills, by a factor of two; a network that
always sees the head at one size need not learn that.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

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
    for labels in _labelled(there).cpu():
        found, counts = labels[labels > 0].unique(return_counts=True)
        if not len(found) or int(counts.max()) < _LEAST * labels.numel():
            boxes.append((0, 0, rows, columns))
            continue
        places = (labels == found[int(counts.argmax())]).nonzero()
        (top, left), (bottom, right) = places.amin(0).tolist(), places.amax(0).tolist()
        boxes.append(_in_pixels((top, left, bottom + 1, right + 1), grid, (rows, columns)))
    return boxes


def _labelled(there: torch.Tensor) -> torch.Tensor:
    """Return (n, rows, columns) of int64 where each connected part has one number above 0.

    The highest number of a part spreads over it, one place in each step.
    """
    numbers = torch.arange(1, there[0].numel() + 1, device=there.device, dtype=torch.float32)
    labels = numbers.reshape(there.shape[1:]) * there
    inside = there.float()
    while True:
        spread = labels
        for _ in range(16):
            spread = F.max_pool2d(spread[:, None], 3, 1, 1)[:, 0] * inside
        if torch.equal(spread, labels):
            return labels.long()
        labels = spread


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
