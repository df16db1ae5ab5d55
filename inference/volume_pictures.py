"""The slices that a person is shown of a volume, with where its findings are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .decode_pool import DecodePool
from .decode_task import DecodeTask
from .decoded import RecentImages
from .display import pixel_aspect, show_slice, window_of_steps, window_text
from .errors import ODD_DATA, NotAnalysableError
from .image_file import open_image
from .key_images import decoded_again
from .masks import marked
from .pixels import ModalityImage
from .reading import Finding, Illustration, Mask, Presence, SourceImage
from .scheduling import yield_to_stat
from .sliding import VolumeMaps
from .volume import Stack
from .volume_grid import Geometry
from .volume_input import Volume, slice_of
from .windows import Window

# Slices that are shown at most.
_MOST_SHOWN = 6


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One label in a series.

    Attributes
    ----------
    finding : Finding
    masks : tuple of Mask
        In the order of the slices; none where it is not present.
    shown : tuple of int
        Slices that show it best, best first.
    """

    finding: Finding
    masks: tuple[Mask, ...] = ()
    shown: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class AtHand:
    """What is known of a series when it is shown.

    Attributes
    ----------
    bundle : Bundle
    maps : VolumeMaps or None
        None for a network that gives one number for the whole.
    volume : Volume
        What the network saw.
    geometry : Geometry
    stack : Stack
    """

    bundle: Bundle
    maps: VolumeMaps | None
    volume: Volume
    geometry: Geometry
    stack: Stack


def volume_pictures(
    found: Sequence[Found],
    at_hand: AtHand,
    decoding: DecodePool,
    sources: Mapping[str, SourceImage],
) -> tuple[tuple[Illustration, ...], dict[str, str]]:
    """Show the slices of what was found, and of nothing found the one that came nearest.

    Parameters
    ----------
    found : sequence of Found
    at_hand : AtHand
    decoding : DecodePool
        Decodes them once more.
    sources : mapping of str to SourceImage
        By SOP Instance UID, with the facts of their files if they are known.

    Returns
    -------
    tuple of Illustration
    dict of str to str
        SOP Instance UIDs of images that cannot be shown, and the kind of error.
    """
    wanted = list(_wanted(found).items())[:_MOST_SHOWN]
    slices = [at_hand.stack.slices[number] for number, _ in wanted]
    tasks = [
        DecodeTask(sources[one.image.sop_instance_uid], one.frame, at_hand.bundle.spec)
        for one in slices
    ]
    masks = [mask for one in found for mask in one.masks]
    shown: list[Illustration] = []
    failed: dict[str, str] = {}
    images = decoded_again(decoding, tasks, RecentImages())
    for (number, names), one, image in zip(wanted, slices, images, strict=True):
        yield_to_stat()
        uid = one.image.sop_instance_uid
        if isinstance(image, Exception):
            failed[uid] = type(image).__name__
            continue
        outlined = marked(masks, uid, one.frame, names)
        try:
            shown.append(_picture(image, number, names, at_hand, outlined))
        except (NotAnalysableError, *ODD_DATA) as error:
            failed[uid] = type(error).__name__
    return tuple(shown), failed


def _wanted(found: Sequence[Found]) -> dict[int, list[str]]:
    """Return which slices are shown, best first, and the names of the labels they show."""
    reported = [one for one in found if one.finding.presence is not Presence.ABSENT]
    nearest = max(found, key=lambda one: one.finding.probability)
    wanted: dict[int, list[str]] = {}
    for one in reported or [nearest]:
        for number in one.shown:
            names = wanted.setdefault(number, [])
            if one in reported:
                names.append(one.finding.label.name)
    return wanted


def _picture(
    image: ModalityImage,
    number: int,
    names: Sequence[str],
    at_hand: AtHand,
    outlined: NDArray[np.bool_] | None,
) -> Illustration:
    one, bundle, maps = at_hand.stack.slices[number], at_hand.bundle, at_hand.maps
    dataset = open_image(one.image.path)
    window = window_of(bundle)
    saliency = None
    columns = [n for n, label in enumerate(bundle.labels) if label.name in names]
    if maps is not None and columns and outlined is None:
        probability = maps.probability[columns]
        each = slice_of(probability, at_hand.volume.axes, at_hand.geometry, number)
        saliency = each.max(axis=0)
    return Illustration(
        sop_instance_uid=one.image.sop_instance_uid,
        frame=one.frame,
        pixels=show_slice(image.values, window),
        window=window_text(window),
        pixel_aspect=pixel_aspect(dataset, one.frame),
        saliency=saliency,
        labels=tuple(names),
        position_mm=float(at_hand.stack.positions_mm[number]),
        marked=outlined,
    )


def window_of(bundle: Bundle) -> Window:
    """Return the window in which a person is shown what the network saw: its range of HU."""
    return window_of_steps(bundle.spec.volume.intensity if bundle.spec.volume is not None else ())
