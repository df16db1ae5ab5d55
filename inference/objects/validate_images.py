"""What must hold of captures and segmentations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from .. import codes
from . import checks

_CAPTURE: Final[dict[str, object]] = {
    "Modality": "OT", "SeriesNumber": 9002, "ConversionType": "WSD", "BurnedInAnnotation": "YES",
    "ImageType": ["DERIVED", "SECONDARY"], "PhotometricInterpretation": "RGB",
    "SamplesPerPixel": 3, "PlanarConfiguration": 0, "BitsAllocated": 8, "BitsStored": 8,
    "HighBit": 7, "PixelRepresentation": 0,
}  # fmt: skip
_SEGMENTATION: Final[dict[str, object]] = {
    "Modality": "SEG", "SeriesNumber": 9004, "SegmentationType": "BINARY",
    "BurnedInAnnotation": "NO", "ImageType": ["DERIVED", "PRIMARY"],
    "PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1, "BitsAllocated": 1,
    "BitsStored": 1, "HighBit": 0, "PixelRepresentation": 0,
}  # fmt: skip
_LONGEST_SIDE: Final = 1024


def capture_faults(ds: Dataset) -> Iterator[str]:
    """Yield what is wrong with a Secondary Capture Image."""
    yield from checks.header_faults(ds, _CAPTURE)
    rows, columns = int(ds.get("Rows") or 0), int(ds.get("Columns") or 0)
    yield from checks.pixel_faults(ds, rows * columns * 24)
    if max(rows, columns) > _LONGEST_SIDE:
        yield f"the picture is larger than {_LONGEST_SIDE} on a side"
    if "PatientOrientation" not in ds:
        yield "PatientOrientation is missing"
    yield from _own_text(ds, "ImageComments", "AI unverified")
    yield from _own_text(ds, "DerivationDescription", "")
    words = str(ds.get("ImageComments") or "").split()
    if any(word.startswith("2.25.") and not UID(word).is_valid for word in words):
        yield "ImageComments holds no valid tracking UID"
    sources = list(ds.get("SourceImageSequence") or ())
    if len(sources) > 1:
        yield f"a capture is of one image, not of {len(sources)}"
    if not sources and not str(ds.get("DerivationDescription")).startswith("Card of text"):
        yield "there is no source image, and the picture is no card of text"
    yield from checks.source_faults(sources)
    yield from checks.instance_faults(ds, checks.referenced(sources))


def _own_text(ds: Dataset, keyword: str, begins: str) -> Iterator[str]:
    text = str(ds.get(keyword) or "")
    if not text or not text.startswith(begins) or not text.isascii():
        yield f"{keyword} is empty, beyond ASCII or does not begin with {begins!r}"


def segmentation_faults(ds: Dataset) -> Iterator[str]:
    """Yield what is wrong with a binary Segmentation."""
    yield from checks.header_faults(ds, _SEGMENTATION)
    segments = list(ds.get("SegmentSequence") or ())
    frames = list(ds.get("PerFrameFunctionalGroupsSequence") or ())
    rows, columns = int(ds.get("Rows") or 0), int(ds.get("Columns") or 0)
    yield from checks.pixel_faults(ds, rows * columns * len(frames))
    if not frames or ds.get("NumberOfFrames") != len(frames):
        yield f"NumberOfFrames is {ds.get('NumberOfFrames')} of {len(frames)} frames"
    if "PatientOrientation" not in ds:
        yield "PatientOrientation is missing"
    for keyword in ("ContentLabel", "SegmentsOverlap", "LossyImageCompression"):
        if not ds.get(keyword):
            yield f"{keyword} is empty"
    yield from _segments(segments)
    yield from _frames(ds, frames, {int(s.get("SegmentNumber") or 0) for s in segments})
    yield from _space(ds, frames)


def _segments(segments: list[Dataset]) -> Iterator[str]:
    numbers = [s.get("SegmentNumber") for s in segments]
    if not segments or numbers != list(range(1, len(segments) + 1)):
        yield f"the segments are numbered {numbers}"
    tracked = [str(s.get("TrackingUID") or "") for s in segments]
    if len(set(tracked)) != len(tracked) or not all(map(checks.is_own, tracked)):
        yield "a segment has no valid tracking UID of its own"
    for segment in segments:
        name = segment.get("SegmentNumber")
        if segment.get("SegmentAlgorithmType") != "AUTOMATIC":
            yield f"segment {name} is not AUTOMATIC"
        for keyword in ("SegmentLabel", "SegmentAlgorithmName", "TrackingID"):
            if not segment.get(keyword):
                yield f"segment {name}: {keyword} is empty"
        category = checks.first_code(segment, "SegmentedPropertyCategoryCodeSequence")
        if category not in (codes.ABNORMAL_STRUCTURE, codes.ANATOMICAL_STRUCTURE):
            yield f"segment {name} is of no abnormal structure and of no part of the body"
        kind = checks.first_code(segment, "SegmentedPropertyTypeCodeSequence")
        fault = f"segment {name} has no type" if kind is None else codes.fault(kind)
        if fault is not None:
            yield fault


def _frames(ds: Dataset, frames: list[Dataset], known: set[int]) -> Iterator[str]:
    used: set[int] = set()
    sources: list[Dataset] = []
    for number, frame in enumerate(frames, start=1):
        segment = [
            int(i.get("ReferencedSegmentNumber") or 0)
            for i in frame.get("SegmentIdentificationSequence") or ()
        ]
        used.update(segment)
        derived = list(frame.get("DerivationImageSequence") or ())
        own = [s for d in derived for s in d.get("SourceImageSequence") or ()]
        sources += own
        if len(segment) != 1 or len(own) != 1:
            yield f"frame {number} has {len(segment)} segments and {len(own)} source images"
        if any(
            checks.first_code(d, "DerivationCodeSequence") != codes.SEGMENTATION for d in derived
        ):
            yield f"frame {number} is no segmentation of its source"
        values = [i.get("DimensionIndexValues") for i in frame.get("FrameContentSequence") or ()]
        if len(values) != 1 or [values[0][0]] != segment:
            yield f"frame {number} has dimension indices of another segment"
    if used != known:
        yield "segments and frames do not belong together"
    yield from checks.source_faults(sources)
    yield from checks.instance_faults(ds, checks.referenced(sources))


def _space(ds: Dataset, frames: list[Dataset]) -> Iterator[str]:
    """There is a frame of reference where, and only where, every frame has its place in it."""
    shared = list(ds.get("SharedFunctionalGroupsSequence") or ())
    if len(shared) != 1:
        yield f"{len(shared)} items of shared functional groups"
        return
    is_in_space = bool(ds.get("FrameOfReferenceUID"))
    for group in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
        placed = [group in frame or group in shared[0] for frame in frames]
        if placed != [is_in_space] * len(frames):
            yield f"{group} and Frame of Reference UID do not go together"
