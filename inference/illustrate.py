"""Which images a person is shown, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .display import window_of_steps
from .postprocess import Probabilities, key_rows, whole_series
from .reading import Presence
from .windows import Window

# Radiographs and slices that are shown at most.
_MOST_FILMS = 4
_MOST_SLICES = 6
# Blood beside bone: under the narrow window of the brain both are white.
_BESIDE_BONE = {"subdural", "epidural"}
_WIDE = "subdural"

_RANK = {Presence.PRESENT: 2, Presence.UNDETERMINED: 1, Presence.ABSENT: 0}


@dataclass(frozen=True, slots=True)
class View:
    """An image to be shown.

    Attributes
    ----------
    row : int
        Which row of the input it was.
    columns : tuple of int
        Labels that it is shown for; none for a picture that shows no finding.
    looked : int or None
        The label whose saliency is shown, of those that are present.
    """

    row: int
    columns: tuple[int, ...] = ()
    looked: int | None = None


def film_views(
    bundle: Bundle, uids: Sequence[str], probabilities: Probabilities
) -> tuple[View, ...]:
    """Return the radiographs to show, the most probable finding first, a frame of each.

    Parameters
    ----------
    bundle : Bundle
    uids : sequence of str
        SOP Instance UID of each row; an image of several frames has several rows.
    probabilities : ndarray, (rows, labels)
    """

    def weight(row: int) -> tuple[int, float, int]:
        best = max(
            (_RANK[label.thresholds.presence(p)], p)
            for label, p in zip(bundle.labels, map(float, probabilities[row]), strict=True)
        )
        return *best, -row

    ranked = sorted(range(len(uids)), key=weight, reverse=True)
    best = {uids[row]: row for row in reversed(ranked)}
    rows = sorted(best.values(), key=weight, reverse=True)[:_MOST_FILMS]
    return tuple(
        _view(
            row,
            [c for c, p in enumerate(probabilities[row]) if not _absent(bundle, c, p)],
            probabilities,
            {
                c
                for c, p in enumerate(probabilities[row])
                if _presence(bundle, c, p) is Presence.PRESENT
            },
        )
        for row in rows
    )


def slice_views(
    bundle: Bundle,
    positions_mm: NDArray[np.float64],
    probabilities: Probabilities,
    of_whole: NDArray[np.float64] | None = None,
) -> tuple[View, ...]:
    """Return the slices to show: the best of every finding, those of the primary label first.

    Without any finding it is the one slice that came nearest to one.

    Parameters
    ----------
    bundle : Bundle
    positions_mm : ndarray, (slices,)
    probabilities : ndarray, (slices, labels)
    of_whole : ndarray, (labels,), optional
        As in `postprocess.series_findings`.
    """
    smoothed = bundle.pooling.smooth(probabilities, positions_mm)
    whole = whole_series(smoothed, of_whole)
    found = {
        column: key_rows(bundle, label, smoothed[:, column], probabilities[:, column])
        for column, label in enumerate(bundle.labels)
        if not _absent(bundle, column, float(whole[column]))
    }
    if not found:
        return (View(int(smoothed.max(axis=1).argmax())),)
    present = {c for c in found if _presence(bundle, c, whole[c]) is Presence.PRESENT}
    return tuple(
        _view(
            row, [column for column, rows in found.items() if row in rows], probabilities, present
        )
        for row in _interleaved(bundle, found, smoothed)[:_MOST_SLICES]
    )


def slice_candidates(
    bundle: Bundle, positions_mm: NDArray[np.float64], probabilities: Probabilities
) -> set[int]:
    """Return the slices, of those read until now, that `slice_views` may choose for a finding.

    Those whose neighbours are still to come, and the best of the others.

    Parameters
    ----------
    bundle : Bundle
    positions_mm : ndarray, (slices,)
        Of all slices.
    probabilities : ndarray, (slices until now, labels)
    """
    count = len(probabilities)
    known, to_come = positions_mm[:count], positions_mm[count:]
    smoothed = bundle.pooling.smooth(probabilities, known)
    near = np.zeros(count, dtype=bool)
    if len(to_come):
        reach = bundle.pooling.reach_mm
        near = (known > to_come.min() - reach) & (known < to_come.max() + reach)
    rows = set(np.flatnonzero(near).tolist())
    # Among themselves: one whose neighbours are to come may score less in the end.
    settled = np.flatnonzero(~near)
    if not len(settled):
        return rows
    for column, label in enumerate(bundle.labels):
        best = key_rows(bundle, label, smoothed[settled, column], probabilities[settled, column])
        rows.update(settled[best].tolist())
    return rows


def window_of(bundle: Bundle, columns: Sequence[int]) -> Window:
    """Return the window that shows these labels: the first, or a wide one beside the skull.

    Of a model without windows it is the range of HU that it sees.
    """
    windows = bundle.spec.windows
    if not windows:
        plane = bundle.spec.plane
        return window_of_steps(() if plane is None else plane.intensity)
    names = {bundle.labels[column].name for column in columns} - {bundle.primary}
    if names and names <= _BESIDE_BONE:
        return next((window for window in windows if window.name == _WIDE), windows[0])
    return windows[0]


def _interleaved(
    bundle: Bundle, found: Mapping[int, Sequence[int]], smoothed: Probabilities
) -> list[int]:
    """Return the best row of each label, then the second best of each: none may be crowded out."""

    def weight(column: int) -> tuple[bool, float, int]:
        primary = bundle.labels[column].name == bundle.primary
        return primary, float(smoothed[:, column].max()), -column

    columns = sorted(found, key=weight, reverse=True)
    most = max(len(rows) for rows in found.values())
    in_turn = [found[c][rank] for rank in range(most) for c in columns if rank < len(found[c])]
    return list(dict.fromkeys(in_turn))


def _view(
    row: int, columns: Sequence[int], probabilities: Probabilities, present: Collection[int]
) -> View:
    """Return a view; where the model looked is shown for what is present alone.

    Of a finding in doubt the map is as doubtful, and a person would take it for an outline.
    """
    shown = [column for column in columns if column in present]
    looked = max(shown, key=lambda c: (float(probabilities[row, c]), -c), default=None)
    return View(row, tuple(columns), looked)


def _presence(bundle: Bundle, column: int, probability: float) -> Presence:
    return bundle.labels[column].thresholds.presence(float(probability))


def _absent(bundle: Bundle, column: int, probability: float) -> bool:
    return _presence(bundle, column, probability) is Presence.ABSENT
