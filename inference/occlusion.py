"""Occlusion: what a label loses when a patch of the input is covered (Zeiler and Fergus, 2014).

A patch is moved over the input; each place gets the mean of what all patches over it cost. Light:
it asks nothing of the network but its outputs, so that any engine will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bundle_section import Activation
from .evidence import log_odds

Rows = NDArray[np.float32]
# Outputs, (rows, outputs), of rows of the input.
Run = Callable[[Rows], NDArray[np.float32]]
# Cells to a side that are aimed at.
_CELLS = 16
# More moves to a patch would be many more passes.
_PARTS = 5


@dataclass(frozen=True, slots=True)
class Patches:
    """Where patches lie on a square input.

    Attributes
    ----------
    size : int
        Rows and columns of the input.
    patch : int
        Rows and columns of a patch, in pixels of the input: a multiple of the stride.
    stride : int
        How far a patch is moved; the side of a cell of the map.

    Raises
    ------
    ValueError
        If a patch does not fit, or is no multiple of the stride.
    """

    size: int
    patch: int
    stride: int

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.patch <= self.size:
            raise ValueError(
                f"a stride of {self.stride} and a patch of {self.patch} do not fit: a stride is at "
                f"most as long as the patch, and a patch as the input, which has {self.size} pixels"
            )
        if self.patch % self.stride:
            lower = self.patch // self.stride * self.stride
            upper = lower + self.stride
            fitting = f"{lower} or {upper}" if upper <= self.size else f"{lower}"
            raise ValueError(
                f"a patch of {self.patch} is no multiple of a stride of {self.stride}: take a "
                f"patch of {fitting}, or a stride of {_divisor_near(self.patch, self.stride)}"
            )

    @classmethod
    def of(cls, size: int, patch: int | None = None, stride: int | None = None) -> Patches:
        """Return the patches of an input; by default an eighth of it, moved by half of that.

        Of a patch alone the stride is its half, a third, a quarter or a fifth, the longest of which
        it is a multiple, or itself. Of a stride alone the patch is its double, or itself where that
        is too long.
        """
        if patch is None:
            stride = max(1, round(size / _CELLS)) if stride is None else stride
            patch = 2 * stride if 2 * stride <= size else stride
        elif stride is None:
            parts = range(max(1, -(-patch // _PARTS)), patch // 2 + 1)
            stride = max((one for one in parts if patch % one == 0), default=patch)
        return cls(size, patch, stride)

    @property
    def cells(self) -> int:
        """Cells to a side of the map; the last may reach beyond the input."""
        return -(-self.size // self.stride)

    @property
    def starts(self) -> tuple[int, ...]:
        """First rows, and columns, of the patches; the last may reach beyond the input."""
        count = -(-(self.size - self.patch) // self.stride) + 1
        return tuple(number * self.stride for number in range(count))

    @property
    def count(self) -> int:
        """How many patches there are; the network is run once for each."""
        return len(self.starts) ** 2


def occlusion(
    run: Run,
    row: Rows,
    output: int,
    activation: Activation,
    patches: Patches,
    *,
    baseline: float,
    batch: int = 8,
) -> NDArray[np.float32]:
    """Return what covering costs the log-odds of an output, for each cell.

    Parameters
    ----------
    run : callable
        Gives outputs, (rows, outputs), for rows.
    row : ndarray of float32, (1, channels, size, size)
    output : int
        Index of the output.
    activation : {"sigmoid", "softmax"}
    patches : Patches
        Of the input's size.
    baseline : float
        What covers: the input's black.
    batch : int
        Rows at the network at once.

    Returns
    -------
    ndarray of float32, (cells, cells)
        Positive where the label lives on what is there. The same whatever the batch, to 1e-5.
    """
    corners = [(top, left) for top in patches.starts for left in patches.starts]
    whole = float(log_odds(run(row), output, activation)[0])
    costs = [
        whole - told
        for part in _in_parts(corners, batch)
        for told in log_odds(run(_covered(row, part, patches, baseline)), output, activation)
    ]
    total = np.zeros((patches.cells, patches.cells))
    over = np.zeros_like(total)
    wide = patches.patch // patches.stride
    for (top, left), cost in zip(corners, costs, strict=True):
        down, across = top // patches.stride, left // patches.stride
        there = (slice(down, down + wide), slice(across, across + wide))
        total[there] += cost
        over[there] += 1
    return np.asarray(total / over, dtype=np.float32)


def _divisor_near(patch: int, stride: int) -> int:
    """Return the part of a patch, of which it is a multiple, that is nearest to a stride."""
    parts = [one for one in range(1, patch + 1) if patch % one == 0]
    return min(parts, key=lambda one: (abs(one - stride), -one))


def _covered(
    row: Rows, corners: Sequence[tuple[int, int]], patches: Patches, baseline: float
) -> Rows:
    rows = np.repeat(row, len(corners), axis=0)
    for covered, (top, left) in zip(rows, corners, strict=True):
        covered[:, top : top + patches.patch, left : left + patches.patch] = baseline
    return rows


def _in_parts(
    corners: Sequence[tuple[int, int]], batch: int
) -> Iterator[Sequence[tuple[int, int]]]:
    for first in range(0, len(corners), batch):
        yield corners[first : first + batch]
