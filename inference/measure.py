"""How large a finding is, by its masks and the true distances of its slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from . import codes
from .reading import Mask, Measurement, Reading
from .spacing import same_place
from .volume import Stack

# A hundred litres: more than a person has, and than a report may say.
MOST_ML = 100_000.0
# As many times the usual distance as two slices stand for what is between them.
_FAR = 2.0


def cells_mm(positions_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the extent along the normal that each slice stands for.

    It reaches half way to the neighbours on either side, at either end as far beyond as before.
    Slices at one position share its extent. Of a distance far larger than the others, where slices
    are missing or one lies away from the rest, no more counts than one missing slice explains.

    Parameters
    ----------
    positions_mm : ndarray of float64, (slices,)
        Ascending, at two or more places.

    Returns
    -------
    ndarray of float64, (slices,)
    """
    place = same_place(positions_mm)
    at = np.array([positions_mm[place == one].mean() for one in range(place[-1] + 1)])
    apart = np.diff(at)
    # Not the median: a series may be 4 mm apart below and 7 mm above, or come in close pairs.
    usual = float(np.quantile(apart, 0.75, method="lower"))
    distances = np.minimum(apart, _FAR * usual)
    beyond = np.where(apart > _FAR * usual, usual, apart)
    cells = np.concatenate((beyond[:1], distances)) + np.concatenate((distances, beyond[-1:]))
    return np.asarray((cells / 2.0 / np.bincount(place))[place], dtype=np.float64)


def pixel_ml(stack: Stack) -> NDArray[np.float64] | None:
    """Return the volume of one pixel of each slice in ml.

    None where it cannot be known: positions or pixel spacing are missing, or all slices lie at one
    place.
    """
    spacing = [one.pixel_spacing for one in stack.slices]
    known = [one[0] * one[1] for one in spacing if one is not None]
    if stack.normal is None or len(known) != len(spacing):
        return None
    if same_place(stack.positions_mm)[-1] == 0:
        return None
    return cells_mm(stack.positions_mm) * np.array(known, dtype=np.float64) / 1000.0


def volumes(
    masks: Sequence[Mask], images: Sequence[tuple[str, int]], ml: NDArray[np.float64]
) -> tuple[Measurement, ...]:
    """Return the volume of each label that has masks, where it can be true.

    One that no person has would make the whole report invalid, and the finding would not be sent.

    Parameters
    ----------
    masks : sequence of Mask
    images : sequence of (str, int)
        SOP Instance UID and frame of each slice.
    ml : ndarray of float64, (slices,)
        See `pixel_ml`.
    """
    of_image = dict(zip(images, ml.tolist(), strict=True))
    found: dict[str, float] = {}
    for mask in masks:
        volume = int(mask.pixels.sum()) * of_image[mask.sop_instance_uid, mask.frame]
        found[mask.label] = found.get(mask.label, 0.0) + volume
    return tuple(
        Measurement(label, codes.VOLUME, value, codes.MILLILITRE)
        for label, value in found.items()
        if 0.0 <= value <= MOST_ML
    )


def left_out(masks: Sequence[Mask], measured: Sequence[Measurement]) -> dict[str, object]:
    """Return the fact which labels have masks and no volume that can be true; see `volumes`."""
    names = {mask.label for mask in masks} - {one.label for one in measured}
    return {"volume_implausible": sorted(names)} if names else {}


def with_masks(
    reading: Reading,
    masks: Sequence[Mask],
    images: Sequence[tuple[str, int]],
    ml: NDArray[np.float64] | None,
) -> Reading:
    """Return a reading with its masks, and with their volumes where these can be told.

    Parameters
    ----------
    reading : Reading
    masks : sequence of Mask
    images, ml
        As of `volumes`; None where the volume of a pixel is not known.
    """
    if ml is None:
        return replace(reading, masks=tuple(masks))
    measured = volumes(masks, images, ml)
    facts = {**reading.facts, **left_out(masks, measured)}
    return replace(reading, masks=tuple(masks), measurements=measured, facts=facts)
