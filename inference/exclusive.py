"""Maps of a picture or slice as what its labels have of them, also where labels exclude each other.

Of volumes `sliding` does the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import BundleError
from .masks import Maps, masks_of
from .placement import Placement
from .reading import Mask

# Of outputs that are equally probable none has the pixel.
MORE_THAN_HALF = 0.5 + 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class LabelMaps:
    """What a network says of each place of its input, in the order of the bundle's labels.

    Attributes
    ----------
    probability : ndarray of float32, (rows, labels, size, size)
        0 to 1; of labels that exclude each other zero where another output is more probable.
    belongs : ndarray of float32, (rows, labels, size, size)
        0 to 1, made to be interpolated: a place belongs to the label from `cutoff` on.
    cutoff : float or None
        None is the upper threshold of each label.
    """

    probability: Maps
    belongs: Maps
    cutoff: float | None = None


def of_labels(maps: Maps, bundle: Bundle) -> LabelMaps:
    """Return what the labels of a bundle have of the maps of its network.

    Parameters
    ----------
    maps : ndarray of float32, (rows, labels, size, size)
        See `Network.maps`; of an exclusive bundle of all outputs.
    bundle : Bundle
        Whose masks are true.

    Raises
    ------
    BundleError
        If it is exclusive and has one output alone.
    """
    if not bundle.exclusive:
        return LabelMaps(maps, maps)
    if maps.shape[1] < 2:
        raise BundleError(
            f"{bundle.path}: the network gives 1 channel, and with exclusive the most probable of "
            "several wins"
        )
    wanted = [output.index for output in bundle.outputs]
    own = maps[:, wanted]
    # The distance to the best of the others, so that it can be interpolated between pixels.
    second, first = np.moveaxis(np.partition(maps, (-2, -1), axis=1)[:, -2:], 1, 0)
    winner = maps.argmax(axis=1)
    others = np.stack([np.where(winner == n, second, first) for n in wanted], axis=1)
    belongs = np.asarray((own - others + 1.0) / 2.0, dtype=np.float32)
    shown = own if bundle.calibration is None else bundle.calibration.apply(own)
    probability = np.where(belongs >= MORE_THAN_HALF, shown, np.float32(0.0))
    return LabelMaps(np.asarray(probability, dtype=np.float32), belongs, MORE_THAN_HALF)


def label_masks(
    maps: LabelMaps,
    placements: Sequence[Placement],
    images: Sequence[tuple[str, int]],
    bundle: Bundle,
) -> Iterator[Mask]:
    """Make the masks of all labels; see `masks_of`. No pixel is in two that exclude each other."""
    masks = masks_of(maps.belongs, placements, images, bundle.labels, maps.cutoff)
    if not bundle.exclusive:
        yield from masks
        return
    for _, of_one in groupby(masks, key=lambda mask: (mask.sop_instance_uid, mask.frame)):
        yield from _apart(list(of_one))


def _apart(masks: list[Mask]) -> Iterator[Mask]:
    """Give a peak that lies in another mask too, as `masks_of` keeps it, to the smaller one."""
    taken: NDArray[np.bool_] = np.zeros_like(masks[0].pixels)
    kept: dict[str, Mask] = {}
    for mask in sorted(masks, key=lambda mask: int(mask.pixels.sum())):
        free = mask.pixels & ~taken
        taken |= free
        if free.any():
            kept[mask.label] = replace(mask, pixels=free)
    yield from (kept[mask.label] for mask in masks if mask.label in kept)
