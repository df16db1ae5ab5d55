"""Connected parts of a small grid, on the CPU: neighbours touch by a side or a corner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The runs of a mask along its rows, and the part that each belongs to.

    Attributes
    ----------
    rows, starts, stops : ndarray of int64, (runs,)
        Where the runs lie; `stops` are outside.
    part : ndarray of int64, (runs,)
        From 0, in the order of the first run of a part.
    """

    rows: Whole
    starts: Whole
    stops: Whole
    part: Whole

    @property
    def sizes(self) -> Whole:
        """Places of each part."""
        return np.bincount(self.part, self.stops - self.starts).astype(np.int64)

    def largest(self) -> tuple[int, tuple[int, int, int, int]] | None:
        """Return the size of the largest part and its top, left, bottom and right.

        Of equally large ones it is the one that ends first, reading row by row.
        """
        sizes = self.sizes
        if not len(sizes):
            return None
        # The last run of a part is its last one here: runs are in reading order.
        ends = np.zeros(len(sizes), dtype=np.int64)
        ends[self.part] = np.arange(len(self.part))
        candidates = np.flatnonzero(sizes == sizes.max())
        found = int(candidates[ends[candidates].argmin()])
        own = self.part == found
        rows = self.rows[own]
        box = rows.min(), self.starts[own].min(), rows.max() + 1, self.stops[own].max()
        top, left, bottom, right = (int(edge) for edge in box)
        return int(sizes[found]), (top, left, bottom, right)

    def mask(self, part: int, shape: tuple[int, int]) -> Mask:
        """Return where a part is, (rows, columns)."""
        steps = np.zeros((shape[0], shape[1] + 1), dtype=np.int8)
        own = self.part == part
        steps[self.rows[own], self.starts[own]] += 1
        steps[self.rows[own], self.stops[own]] -= 1
        inside: Mask = np.cumsum(steps[:, :-1], axis=1, dtype=np.int8) > 0
        return inside


def parts_of(mask: Mask) -> Parts:
    """Find the connected parts of a mask, (rows, columns)."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    roots = _joined(rows.tolist(), starts.tolist(), stops.tolist())
    part = np.unique(np.array(roots, dtype=np.int64), return_inverse=True)[1]
    return Parts(rows, starts, stops, part.reshape(-1))


def _joined(rows: list[int], starts: list[int], stops: list[int]) -> list[int]:
    """Return the first run of the part that each run belongs to."""
    root = list(range(len(rows)))

    def find(run: int) -> int:
        while root[run] != run:
            root[run] = run = root[root[run]]
        return run

    above = 0
    for run, row in enumerate(rows):
        while above < run and (
            rows[above] < row - 1 or (rows[above] == row - 1 and stops[above] < starts[run])
        ):
            above += 1
        other = above
        while other < run and rows[other] == row - 1 and starts[other] <= stops[run]:
            one, two = find(run), find(other)
            root[max(one, two)] = min(one, two)
            other += 1
    return [find(run) for run in range(len(rows))]
