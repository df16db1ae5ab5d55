"""Distances of slices along their normal: which are gaps, and which are not even."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Positions closer than this are one position: decimal strings carry fewer digits than a float.
_SAME_POSITION_MM = 0.01
# Distances that are compared with each other: the fewest that show a spacing.
_STRETCH = 3


def unique(positions_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ascending positions, those that are one position once."""
    if len(positions_mm) == 0:
        return positions_mm
    apart = np.diff(positions_mm) > _SAME_POSITION_MM
    return positions_mm[np.concatenate(([True], apart))]


def same_place(positions_mm: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the number of each ascending position's place, from 0; one position is one place."""
    if len(positions_mm) == 0:
        return np.zeros(0, dtype=np.intp)
    apart = np.diff(positions_mm) > _SAME_POSITION_MM
    return np.concatenate(([0], np.cumsum(apart))).astype(np.intp)


def gaps(positions_mm: NDArray[np.float64], factor: float) -> list[tuple[float, float]]:
    """Return pairs of positions between which slices are missing.

    A distance is a gap if it is more than `factor` times both its neighbours: a scan that goes
    from 4 mm at the skull base to 7 mm above has none.
    """
    places = unique(positions_mm)
    distances = np.diff(places)
    found = []
    for index, distance in enumerate(distances):
        neighbours = distances[max(0, index - 1) : index + 2]
        others = [float(n) for i, n in enumerate(neighbours) if i != min(index, 1)]
        if others and distance > factor * max(others):
            found.append((float(places[index]), float(places[index + 1])))
    return found


def uneven(positions_mm: NDArray[np.float64], share: float) -> list[tuple[float, float]]:
    """Return pairs of positions whose distance differs from those next to it.

    A distance is even if it is one of three in a row of which none differs from their median by
    more than `share` of it. A scan may change its spacing: one distance that is not even is
    accepted between even ones if these differ, for the slices before and after a change need not
    meet. Slices at one position count as one.
    """
    places = unique(positions_mm)
    spacings = _spacings(np.diff(places), share)
    return [
        (float(places[index]), float(places[index + 1]))
        for index, spacing in enumerate(spacings)
        if spacing is None and not _is_change(spacings, index, share)
    ]


def _spacings(distances: NDArray[np.float64], share: float) -> list[float | None]:
    """Return for each distance the spacing of a stretch that it belongs to, or None."""
    found: list[float | None] = [None] * len(distances)
    length = min(_STRETCH, len(distances))
    for start in range(len(distances) - length + 1):
        stretch = distances[start : start + length]
        median = float(np.median(stretch))
        if np.abs(stretch - median).max(initial=0.0) <= _tolerance(median, share):
            for index in range(start, start + length):
                found[index] = median if found[index] is None else found[index]
    return found


def _is_change(spacings: Sequence[float | None], index: int, share: float) -> bool:
    """Tell whether the distance lies between two stretches of different spacing."""
    if not 0 < index < len(spacings) - 1:
        return False
    before, after = spacings[index - 1], spacings[index + 1]
    if before is None or after is None:
        return False
    return abs(before - after) > _tolerance(min(before, after), share)


def _tolerance(spacing: float, share: float) -> float:
    # Of thin slices the rounding of their positions is a large share.
    return max(share * spacing, 2 * _SAME_POSITION_MM)
