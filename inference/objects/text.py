"""A result object as text for a terminal: the content tree, one line per content item.

How key images lie in space (acquisition context) is for machines and left out. A capture or a
segmentation has no tree; what its header says of it is listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from .report import CAPTURE, KEY_OBJECTS, SEGMENTATION, ReportClass
from .template import concept_name, concept_value
from .validate_report import companions_of, inputs_of

_INDENT = "  "
_FLAGS: Final = (
    "CompletionFlag", "PreliminaryFlag", "VerificationFlag", "ContentQualification",
)  # fmt: skip
_LISTED: Final = (
    "SeriesDescription", "SeriesNumber", "InstanceNumber", "ImageType", "BurnedInAnnotation",
    "BodyPartExamined", "PatientOrientation", "ImageComments", "DerivationDescription", "Rows",
    "Columns", "NumberOfFrames", "PhotometricInterpretation", "SegmentationType",
    "SegmentsOverlap", "FrameOfReferenceUID",
)  # fmt: skip


def render(ds: Dataset) -> str:
    """Return a result object as indented lines.

    Parameters
    ----------
    ds : Dataset
        A report, key objects, a capture or a segmentation; no pixel is read.
    """
    flags = ", ".join(str(ds[word].value) for word in _FLAGS if word in ds)
    is_document = "ContentSequence" in ds
    title = _title(ds) if is_document else ds.get("Modality", "?")
    lines = [
        f"{title} ({flags})",
        f"{_INDENT}Patient: {ds.get('PatientName', '')} [{ds.get('PatientID', '')}]",
        f"{_INDENT}Study: {ds.get('StudyInstanceUID', '')}",
        *(_lines(ds, depth=1) if is_document else _listing(ds)),
    ]
    if is_document:
        kind = "Images read" if "CompletionFlag" in ds else "Instances referenced"
        lines.insert(3, f"{_INDENT}{kind}: {len(inputs_of(ds))}")
        shown = len(companions_of(ds))
        lines[4:4] = [f"{_INDENT}Companions: {shown}"] if shown else []
    return "\n".join(lines) + "\n"


def _title(ds: Dataset) -> str:
    """Return the title of a document; of key objects it is too short to say what they are."""
    if ds.get("SOPClassUID") != KEY_OBJECTS:
        return _name(ds)
    about = str(ds.get("SeriesDescription") or "")
    return f"{about}{', key' if about else 'Key'} objects: {_name(ds)}"


def _listing(ds: Dataset) -> Iterator[str]:
    for keyword in _LISTED:
        value = ds.get(keyword)
        if value not in (None, ""):
            yield f"{_INDENT}{keyword}: {value}"
    for source in ds.get("SourceImageSequence") or ():
        yield f"{_INDENT}Source image: {source.get('ReferencedSOPInstanceUID')}"
    for segment in ds.get("SegmentSequence") or ():
        yield f"{_INDENT}Segment {segment.get('SegmentNumber')}: {segment.get('SegmentLabel')}"
        for keyword in ("SegmentAlgorithmType", "SegmentAlgorithmName", "TrackingID"):
            yield f"{_INDENT * 2}{keyword}: {segment.get(keyword)}"
        yield f"{_INDENT * 2}TrackingUID: {segment.get('TrackingUID')}"
    for number, frame in enumerate(ds.get("PerFrameFunctionalGroupsSequence") or (), start=1):
        yield f"{_INDENT}Frame {number}: {_frame(frame)}"


def _frame(frame: Dataset) -> str:
    numbers = [
        str(i.get("ReferencedSegmentNumber"))
        for i in frame.get("SegmentIdentificationSequence") or ()
    ]
    images = [
        str(source.get("ReferencedSOPInstanceUID"))
        for derived in frame.get("DerivationImageSequence") or ()
        for source in derived.get("SourceImageSequence") or ()
    ]
    return f"segment {', '.join(numbers)} of {', '.join(images)}"


def _lines(item: Dataset, depth: int) -> Iterator[str]:
    for child in item.get("ContentSequence") or ():
        if child.get("RelationshipType") == "HAS ACQ CONTEXT":
            continue
        value = text_value(child)
        yield f"{_INDENT * depth}{_name(child)}" + (f": {value}" if value else "")
        yield from _lines(child, depth + 1)


def _name(item: Dataset) -> str:
    name = concept_name(item)
    if name is not None:
        return name.meaning
    for one in item.get("ReferencedSOPSequence") or ():
        return _kind(str(one.get("ReferencedSOPClassUID", "")), str(item.get("ValueType", "?")))
    return str(item.get("ValueType", "?"))


def _kind(sop_class: str, value_type: str) -> str:
    """Return what a reference without a name is to, by its SOP class."""
    if sop_class == CAPTURE or sop_class.startswith(f"{CAPTURE}."):
        return "Capture"
    if sop_class == SEGMENTATION:
        return "Segmentation"
    if sop_class in set(ReportClass):
        return "Report"
    what = "Source image" if value_type == "IMAGE" else value_type
    name = UID(sop_class).name
    return f"{what} ({name})" if name != sop_class else what


def text_value(item: Dataset) -> str:
    """Return the value of a content item as text; empty for a container."""
    code = concept_value(item)
    if code is not None:
        return code.meaning
    for measured in item.get("MeasuredValueSequence") or ():
        units = measured.get("MeasurementUnitsCodeSequence") or ()
        unit = str(units[0].get("CodeValue", "")) if units else ""
        unit = "" if unit.startswith("{") else f" {unit}"
        return f"{float(measured.get('NumericValue', 'nan')):.12g}{unit}"
    for reference in item.get("ReferencedSOPSequence") or ():
        segment = reference.get("ReferencedSegmentNumber")
        suffix = "" if segment is None else f" segment {segment}"
        return str(reference.get("ReferencedSOPInstanceUID", "")) + suffix
    words = ("TextValue", "UID", "DateTime", "Date", "Time", "PersonName")
    return next((str(item[word].value) for word in words if word in item), "")
