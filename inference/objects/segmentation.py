"""Segmentation, BINARY: where the findings are, of models that tell (PS3.3 A.51)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom import config
from pydicom.dataset import Dataset

from .. import codes
from ..errors import ObjectError
from ..reading import Finding, Mask, ModelIdentity, Presence
from . import anatomy, stamp, uids
from .content import AnalysisContent
from .frames import Framed, put_frames
from .header import coded, header, referenced_series
from .report import SEGMENTATION
from .validate import validate

SERIES_NUMBER: Final = 9004
ROLE: Final = "seg"


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment: a finding and where it is."""

    number: int
    finding: Finding
    masks: tuple[Mask, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationContent(AnalysisContent):
    """Everything that one segmentation says: the masks of `reading`.

    Masks of findings that are absent, and masks without a pixel, are left out: a viewer that draws
    them would contradict the report.
    """

    def __post_init__(self) -> None:
        AnalysisContent.__post_init__(self)  # a class with slots has no super() without arguments
        _require_masks(self)
        if not self.segments:
            raise ObjectError("no finding that may be present has a mask: nothing to segment")

    @property
    def segments(self) -> tuple[Segment, ...]:
        """One segment for each reported finding that has a mask, numbered from 1."""
        masks = self.reading.masks if self.reading is not None else ()
        found: list[Segment] = []
        for finding in self.reported:
            own = tuple(m for m in masks if m.pixels.any() and self._is_of(m, finding))
            if own and finding.presence is not Presence.ABSENT:
                found.append(Segment(len(found) + 1, finding, own))
        return tuple(found)

    def _is_of(self, mask: Mask, finding: Finding) -> bool:
        elsewhere = self.is_one_of_many(finding) and finding.sop_instance_uid != (
            mask.sop_instance_uid
        )
        return mask.label == finding.label.name and not elsewhere


def build_segmentation(content: SegmentationContent) -> Dataset:
    """Return the complete Segmentation.

    Parameters
    ----------
    content : SegmentationContent
        Its data sets and masks are not changed.

    Returns
    -------
    Dataset
        With file meta information; equal for equal contents, byte for byte. Where every image has
        its place in one frame of reference, so have the frames; else, as of radiographs, they are
        in the matrix of their image alone.

    Raises
    ------
    ObjectError
        When the segmentation breaks our promises about it.
    """
    segments = content.segments
    with config.disable_value_validation():  # pydicom's warnings quote a patient's values
        ds = header(
            content,
            SEGMENTATION,
            modality="SEG",
            series_number=SERIES_NUMBER,
            requested_as="RequestAttributesSequence",
        )
        ds.update(anatomy.body_part(content.sources[0]))
        frames = _frames(content, segments)
        _describe(ds, frames)
        inputs = content.inputs
        ds.SegmentSequence = [_segment(one, content, inputs) for one in segments]
        put_frames(ds, frames)
        device = uids.device_uid(content.model)
        stamp.put_uids(ds, ROLE, device, content.companion_inputs, stamp.digest(ds))
        stamp.put_times(ds, content.created_at)
        validate(ds)
    return ds


def _frames(content: SegmentationContent, segments: tuple[Segment, ...]) -> list[Framed]:
    """Return the frames by segment, and there in the order of the images."""
    order = {uid: place for place, uid in enumerate(content.source_uids)}
    return [
        Framed(segment.number, content.sources[order[mask.sop_instance_uid]], mask)
        for segment in segments
        for mask in sorted(segment.masks, key=lambda m: (order[m.sop_instance_uid], m.frame))
    ]


def _describe(ds: Dataset, frames: list[Framed]) -> None:
    """PS3.3 C.8.20.2 Segmentation Image, C.7.6.1 General Image."""
    images = {str(one.image.SOPInstanceUID): one.image for one in frames}
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.PatientOrientation = anatomy.orientation(frames[0].image, frames[0].mask.frame)
    ds.BurnedInAnnotation = "NO"
    ds.ContentLabel = "AI_UNVERIFIED"
    ds.ContentDescription = "AI unverified, not for primary diagnosis"
    ds.ContentCreatorName = None
    ds.SegmentationType = "BINARY"
    ds.ReferencedSeriesSequence = referenced_series(images.values())
    losses = [anatomy.lossy(image) for image in images.values()]
    ds.LossyImageCompression = "00"
    ds.update(next((loss for loss in losses if loss), Dataset()))


def _segment(segment: Segment, content: SegmentationContent, inputs: str) -> Dataset:
    """Return the item of Segment Sequence (PS3.3 C.8.20.4)."""
    label, item = segment.finding.label, Dataset()
    item.SegmentNumber = segment.number
    item.SegmentLabel = content.title(segment.finding)[:64].rstrip()
    item.SegmentDescription = "AI unverified"
    category = codes.ANATOMICAL_STRUCTURE if label.anatomy else codes.ABNORMAL_STRUCTURE
    item.SegmentedPropertyCategoryCodeSequence = [coded(category)]
    item.SegmentedPropertyTypeCodeSequence = [coded(label.code)]
    if label.site is not None:
        item.AnatomicRegionSequence = [coded(label.site)]
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = content.model.name
    item.SegmentationAlgorithmIdentificationSequence = [_algorithm(content.model)]
    item.TrackingID, item.TrackingUID = content.tracking(segment.finding, inputs)
    return item


def _algorithm(model: ModelIdentity) -> Dataset:
    """PS3.3 10.16."""
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [coded(codes.ARTIFICIAL_INTELLIGENCE)]
    item.AlgorithmName = model.name
    item.AlgorithmVersion = model.version
    item.AlgorithmSource = model.manufacturer
    item.AlgorithmParameters = f"weights_sha256={model.weights_sha256}"
    return item


def _require_masks(content: SegmentationContent) -> None:
    known = set(content.source_uids)
    labels = {finding.label.name for finding in content.reported}
    places, shapes = set(), set()
    for mask in content.reading.masks if content.reading is not None else ():
        place = (mask.label, mask.sop_instance_uid, mask.frame)
        if mask.label not in labels or mask.sop_instance_uid not in known:
            raise ObjectError(f"a mask of {place} is of no reported label or of no source")
        if mask.pixels.dtype != np.bool_ or mask.pixels.ndim != 2 or place in places:
            raise ObjectError(f"the mask of {place} is no matrix of bool, or is given twice")
        places.add(place)
        shapes.add(mask.pixels.shape)
    if len(shapes) > 1:
        raise ObjectError(f"masks of {len(shapes)} matrices cannot be one segmentation: {shapes}")
