"""The frames of a segmentation: their place, their source and their bits (PS3.3 C.7.6.16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID

from .. import codes
from ..reading import Mask
from . import uids
from .anatomy import Plane, plane
from .header import coded, source_reference

_SEGMENT: Final = ("ReferencedSegmentNumber", "SegmentIdentificationSequence")
_POSITION: Final = ("ImagePositionPatient", "PlanePositionSequence")
_STACK: Final = ("InStackPositionNumber", "FrameContentSequence")


@dataclass(frozen=True, slots=True, eq=False)
class Framed:
    """One frame: the number of its segment, the header of its image and the mask."""

    segment: int
    image: Dataset
    mask: Mask


def put_frames(ds: Dataset, frames: Sequence[Framed]) -> None:
    """Put pixels, dimensions and functional groups of `frames` into a segmentation.

    The frames are in patient space only if all of their images tell one frame of reference and
    where they lie in it.
    """
    planes = [plane(one.image, one.mask.frame) for one in frames]
    whose = {str(one.image.get("FrameOfReferenceUID") or "") for one in frames}
    known = [one for one in planes if one is not None]
    is_in_space = len(known) == len(planes) and len(whose) == 1 and whose != {""}
    shared, groups = Dataset(), [Dataset() for _ in frames]
    for group, one in zip(groups, frames, strict=True):
        _put_source(group, one)
    if is_in_space:
        ds.FrameOfReferenceUID = UID(whose.pop())
        ds.PositionReferenceIndicator = None
        _put_planes(shared, groups, known)
        places = _ranks([round(one.depth, 4) for one in known])
    else:
        places = _ranks([(str(o.image.SOPInstanceUID), o.mask.frame) for o in frames])
    _put_dimensions(ds, is_in_space)
    for group, one, place in zip(groups, frames, places, strict=True):
        content = Dataset()
        content.DimensionIndexValues = [one.segment, place]
        if not is_in_space:
            content.StackID, content.InStackPositionNumber = "1", place
        group.FrameContentSequence = [content]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = groups
    _put_pixels(ds, frames)


def _ranks(keys: Sequence[Any]) -> list[int]:
    rank = {key: number for number, key in enumerate(sorted(set(keys)), start=1)}
    return [rank[key] for key in keys]


def _put_source(group: Dataset, one: Framed) -> None:
    segment, derivation = Dataset(), Dataset()
    segment.ReferencedSegmentNumber = one.segment
    group.SegmentIdentificationSequence = [segment]
    source = source_reference(one.image, one.mask.frame)
    source.SpatialLocationsPreserved = "YES"
    derivation.SourceImageSequence = [source]
    derivation.DerivationCodeSequence = [coded(codes.SEGMENTATION)]
    group.DerivationImageSequence = [derivation]


def _put_planes(shared: Dataset, groups: list[Dataset], planes: Sequence[Plane]) -> None:
    """Put in positions, and orientation and spacing: shared where they are the same throughout."""
    for group, one in zip(groups, planes, strict=True):
        position = Dataset()
        position.ImagePositionPatient = [_decimal(value) for value in one.position]
        group.PlanePositionSequence = [position]
    first = planes[0]
    is_one_orientation = all(one.orientation == first.orientation for one in planes)
    is_one_size = all((p.spacing, p.thickness) == (first.spacing, first.thickness) for p in planes)
    for group, one in zip(groups, planes, strict=True):
        orientation, measures = Dataset(), Dataset()
        orientation.ImageOrientationPatient = [_decimal(value) for value in one.orientation]
        measures.PixelSpacing = [_decimal(value) for value in one.spacing]
        if one.thickness:
            measures.SliceThickness = _decimal(one.thickness)
        (shared if is_one_orientation else group).PlaneOrientationSequence = [orientation]
        (shared if is_one_size else group).PixelMeasuresSequence = [measures]


def _decimal(value: float) -> str:
    """Return a number as a Decimal String, at most 16 characters (PS3.5 6.2)."""
    text = f"{value:.12g}"
    return text if len(text) <= 16 else f"{value:.8g}"


def _put_dimensions(ds: Dataset, is_in_space: bool) -> None:
    """PS3.3 C.7.6.17: frames are sorted by segment, then by place."""
    organization = Dataset()
    words = (*_SEGMENT, *(_POSITION if is_in_space else _STACK))
    organization.DimensionOrganizationUID = uids.derive_uid("dimensions", *words)
    ds.DimensionOrganizationSequence = [organization]
    ds.DimensionIndexSequence = []
    for keyword, group in (_SEGMENT, _POSITION if is_in_space else _STACK):
        index = Dataset()
        index.DimensionIndexPointer = Tag(tag_for_keyword(keyword) or 0)
        index.FunctionalGroupPointer = Tag(tag_for_keyword(group) or 0)
        index.DimensionOrganizationUID = organization.DimensionOrganizationUID
        index.DimensionDescriptionLabel = keyword
        ds.DimensionIndexSequence.append(index)


def _put_pixels(ds: Dataset, frames: Sequence[Framed]) -> None:
    """PS3.3 C.8.20.2.1: one bit a pixel, frames without padding between them (PS3.5 8.1.1)."""
    masks = np.stack([one.mask.pixels for one in frames])
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.NumberOfFrames = len(frames)
    ds.Rows, ds.Columns = masks.shape[1:]
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = ds.PixelRepresentation = 0
    ds.SegmentsOverlap = _overlap(frames)
    data = np.packbits(masks, axis=None, bitorder="little").tobytes()
    ds.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))


def _overlap(frames: Sequence[Framed]) -> str:
    covered: dict[tuple[str, int], NDArray[np.bool_]] = {}
    for one in frames:
        place = (one.mask.sop_instance_uid, one.mask.frame)
        before = covered.get(place)
        if before is not None and (before & one.mask.pixels).any():
            return "YES"
        covered[place] = one.mask.pixels if before is None else before | one.mask.pixels
    return "NO"
