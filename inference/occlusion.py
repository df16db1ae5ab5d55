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
                f"a stride of {self.stride} and a patch of {self.patch} do not fit: 1 <= stride <= "
                f"patch <= {self.size}, the size of the input"
            )
        if self.patch % self.stride:
            raise ValueError(
                f"a patch of {self.patch} is no multiple of a stride of {self.stride}; "
                f"{self.patch // self.stride * self.stride or self.stride} is"
            )

    @classmethod
    def of(cls, size: int, patch: int | None = None, stride: int | None = None) -> Patches:
        """Return the patches of an input; by default an eighth of it, moved by half of that."""
        if stride is None:
            stride = max(1, round(size / _CELLS)) if patch is None else max(1, patch // 2)
            stride = stride if patch is None or patch % stride == 0 else patch
        return cls(size, min(size, 2 * stride) if patch is None else patch, stride)

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
