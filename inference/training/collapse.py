"""The shape of a pneumothorax: what is left of a lung, and the line that bounds it.

A lung that has come off the wall keeps its shape while it shrinks towards where it is held: by its
root alone, by adhesions below, above or along the mediastinum. So the collapsed lung is the
lung's own outline, scaled about an anchor; between both is free air.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from .phantoms.fields import FloatArray, SmoothField, between, chance

# Free air on less than this share of the lung is not seen on a film of such size; on more than
# that, nothing of the lung is left.
_LEAST_AIR, _MOST_AIR = 0.035, 0.93


class Site(StrEnum):
    """Where the air collects."""

    APICAL = "apical"
    LATERAL = "lateral"
    BASAL = "basal"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Collapse:
    """What is left of one lung.

    Attributes
    ----------
    site : Site
    anchor : tuple of float
        Where the lung is held, as shares of its own box: 0 medial to 1 lateral, 0 top to 1 bottom.
    across, down : float
        What is left of its width and height, as shares.
    wobble : float
        How uneven its border is, as a share of the width.
    sulcus : float
        How far the air pushes the lateral costophrenic angle down, as a share of the height.
    """

    site: Site
    anchor: tuple[float, float]
    across: float
    down: float
    wobble: float
    sulcus: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Collapse:
        """Draw a pneumothorax of any site and size, small ones as often as large ones."""
        site = Site(rng.choice(list(Site), p=[0.42, 0.28, 0.1, 0.2]))
        large = between(rng, 0.0, 1.0) ** 1.3
        if site is Site.APICAL:
            anchor, across, down = (0.1, 1.0), 1 - 0.3 * large, 1 - (0.06 + 0.4 * large)
        elif site is Site.LATERAL:
            anchor, across, down = (0.0, 0.6), 1 - (0.08 + 0.42 * large), 1 - 0.25 * large
        elif site is Site.BASAL:
            anchor, across, down = (0.1, 0.0), 1 - 0.25 * large, 1 - (0.08 + 0.3 * large)
        else:
            anchor, across, down = (0.0, 0.55), 0.62 - 0.42 * large, 0.72 - 0.42 * large
        low = site in (Site.BASAL, Site.WHOLE) or chance(rng, 0.15)
        return cls(
            site=site,
            anchor=anchor,
            across=across * between(rng, 0.96, 1.02),
            down=down,
            wobble=between(rng, 0.0, 0.05),
            sulcus=between(rng, 0.02, 0.14) if low and chance(rng, 0.6) else 0.0,
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """A collapse laid into the lung of one picture.

    Attributes
    ----------
    air : ndarray of float32, (rows, columns)
        Share of free air in each pixel.
    lung : ndarray of float32, (rows, columns)
        Share of what is left of the lung.
    border : ndarray of float32, (rows, columns)
        Distance in pixels inwards from the visceral pleura.
    free : ndarray of float32, (rows, columns)
        Distance in pixels inwards from the chest wall.
    source : torch.Tensor of float32, (1, rows, columns, 2)
        Where the markings of what is left were before, for `grid_sample`.
    side : int
        -1 the left of the picture, 1 its right.
    """

    air: FloatArray
    lung: FloatArray
    border: FloatArray
    free: FloatArray
    source: torch.Tensor
    side: int


def lay(
    collapse: Collapse, depth: NDArray[np.float32], side: int, rng: np.random.Generator
) -> Shape | None:
    """Return `collapse` in a lung; None if it would not be seen, or the lung is hardly there.

    Parameters
    ----------
    depth : ndarray of float32, (rows, columns)
        Distance inwards from the border of the lung, in pixels.
    side : int
        -1 if the lung stands on the left of the picture, 1 on its right.
    """
    inside = depth > 0
    size = depth.shape[0]
    if inside.sum() < 0.03 * depth.size:
        return None
    rows, columns = np.nonzero(inside.any(axis=1))[0], np.nonzero(inside.any(axis=0))[0]
    top, height = float(rows[0]), float(rows[-1] - rows[0] + 1)
    width = float(columns[-1] - columns[0] + 1)
    medial = float(columns[0] if side > 0 else columns[-1])
    y, x = np.mgrid[:size, : depth.shape[1]].astype(np.float32)
    hold_y = top + collapse.anchor[1] * height
    hold_x = medial + side * collapse.anchor[0] * width
    from_y = hold_y + (y - hold_y) / collapse.down
    from_x = hold_x + (x - hold_x) / collapse.across
    source = _grid(from_x, from_y, depth.shape)
    left = _picked(depth, source) * min(collapse.across, collapse.down)
    places = np.arange(size, dtype=np.float32) / size
    field = SmoothField.draw(rng, 0.09, (0.1, 1.2, 1.2)).plane(0.0, places, places)
    border = left + collapse.wobble * width * field * np.clip(depth / (0.1 * width), 0, 1)
    border = np.minimum(border, depth)
    free = _with_sulcus(depth, collapse.sulcus * height, (medial, width, side), (top, height))
    wall = np.clip(free / 1.5 + 0.5, 0, 1)
    lung = np.clip(border / 1.2 + 0.5, 0, 1)
    air = np.clip(wall - lung, 0, 1).astype(np.float32)
    share = float(air.sum() / inside.sum())
    if not _LEAST_AIR <= share <= _MOST_AIR:
        return None
    return Shape(air, (lung * wall).astype(np.float32), border, free, source, side)


def _with_sulcus(
    depth: FloatArray,
    push: float,
    across: tuple[float, float, int],
    down: tuple[float, float],
) -> FloatArray:
    """Return the depth in a chest cavity whose lateral angle is pushed down by `push` pixels."""
    steps = round(push)
    if steps < 1:
        return depth
    medial, width, side = across
    shifted = np.roll(depth, steps, axis=0)
    shifted[:steps] = depth[0]
    columns = np.arange(depth.shape[1], dtype=np.float32)
    lateral = np.clip((side * (columns - medial) / width - 0.5) / 0.3, 0, 1)
    rows = np.arange(depth.shape[0], dtype=np.float32)
    low = np.clip(((rows - down[0]) / down[1] - 0.6) / 0.2, 0, 1)
    weight = low[:, None] * lateral[None, :]
    return np.asarray(np.maximum(depth, weight * shifted + (1 - weight) * depth), np.float32)


def _grid(x: FloatArray, y: FloatArray, shape: tuple[int, ...]) -> torch.Tensor:
    """Return pixel places as coordinates for `grid_sample`, (1, rows, columns, 2)."""
    scaled = np.stack([(2 * x + 1) / shape[1] - 1, (2 * y + 1) / shape[0] - 1], axis=-1)
    return torch.from_numpy(scaled.astype(np.float32))[None]


def _picked(picture: FloatArray, source: torch.Tensor) -> FloatArray:
    whole = torch.from_numpy(np.ascontiguousarray(picture, dtype=np.float32))[None, None]
    picked = F.grid_sample(whole, source, padding_mode="border", align_corners=False)
    return np.asarray(picked[0, 0].numpy(), dtype=np.float32)
