"""Where a finding is, by a network that gives each label a map over its input. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .bilinear import bilinear
from .placement import Placement
from .postprocess import Probabilities
from .reading import Finding, Label, Mask, Presence, Scope

Maps = NDArray[np.float32]
# Of networks that give numbers and maps: a place is as likely blood as not.
MASK_CUTOFF = 0.5


def highest(maps: Maps, placements: Sequence[Placement]) -> Probabilities:
    """Return the probability of each label in each image: the highest of its map.

    Parameters
    ----------
    maps : ndarray of float32, (rows, labels, size, size)
        Probabilities over the input; what lies on its padding counts for nothing.
    placements : sequence of Placement
        What of each source the input shows.

    Returns
    -------
    ndarray of float64, (rows, labels)
    """
    scores = [picture.max(axis=(1, 2)) for picture in _pictures(maps, placements)]
    return np.stack(scores).astype(np.float64)


def masks_of(
    maps: Maps,
    placements: Sequence[Placement],
    images: Sequence[tuple[str, int]],
    labels: Sequence[Label],
    cutoff: float | None = None,
) -> Iterator[Mask]:
    """Make the masks of those labels whose maps reach a probability somewhere in an image.

    Parameters
    ----------
    maps, placements
        As of `highest`.
    images : sequence of (str, int)
        SOP Instance UID and frame of each row.
    labels : sequence of Label
        In the order of the maps.
    cutoff : float, optional
        Probability (0 to 1) from which a place belongs to a mask; the upper threshold of each label
        if left out.
    """
    pictures = _pictures(maps, placements)
    for picture, place, (uid, frame) in zip(pictures, placements, images, strict=True):
        for label, probability in zip(labels, picture, strict=True):
            least = label.thresholds.high if cutoff is None else cutoff
            if probability.max() >= least:
                pixels = _in_source(probability, place, least)
                yield Mask(label.name, uid, frame, pixels)


def of_present(masks: Sequence[Mask], findings: Sequence[Finding]) -> tuple[Mask, ...]:
    """Keep the masks of labels that are Present: in the series if it was judged, or in the image.

    A label of one slice that its neighbours do not show is no finding of the series, and has no
    place among its results.
    """
    judged = {f.label.name for f in findings if f.scope is Scope.SERIES}
    present = {
        (f.label.name, None if f.scope is Scope.SERIES else f.sop_instance_uid)
        for f in findings
        if f.presence is Presence.PRESENT
    }
    return tuple(
        mask
        for mask in masks
        if (mask.label, None if mask.label in judged else mask.sop_instance_uid) in present
    )


def marked(
    masks: Sequence[Mask], uid: str, frame: int, labels: Collection[str]
) -> NDArray[np.bool_] | None:
    """Return where any of these labels is in one image, (rows, columns); None where none is.

    They are shown as one: a bleed of one kind is a bleed of any kind too, and two lines around it
    would be one blurred line.
    """
    mine = [
        mask.pixels
        for mask in masks
        if mask.sop_instance_uid == uid and mask.frame == frame and mask.label in labels
    ]
    return np.logical_or.reduce(mine) if mine else None


def _pictures(maps: Maps, placements: Sequence[Placement]) -> Iterator[Maps]:
    for row, place in zip(maps, placements, strict=True):
        yield place.part_of(row)


def _in_source(probability: Maps, place: Placement, threshold: float) -> NDArray[np.bool_]:
    """Scale one map, (h, w), to the source's matrix and return where it reaches the threshold."""
    top, left, bottom, right = place.box
    part = bilinear(probability, (bottom - top, right - left)) >= threshold
    # Interpolation flattens a peak: what made the label Present stays in its mask all the same.
    peak = np.unravel_index(int(probability.argmax()), probability.shape)
    row, column = (
        (2 * int(at) + 1) * whole // (2 * small)
        for at, whole, small in zip(peak, part.shape, probability.shape, strict=True)
    )
    part[row, column] = True
    mask = np.zeros(place.shape, dtype=np.bool_)
    mask[top:bottom, left:right] = part
    return mask
