"""What must hold of a structured report."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from pydicom.dataset import Dataset

from .. import codes
from ..reading import Code, Presence
from . import checks, template
from .report import CAPTURE, SEGMENTATION
from .template import concept_name, concept_value

_FLAGS: Final[dict[str, object]] = {
    "Modality": "SR",
    "SeriesNumber": 9001,
    "CompletionFlag": "COMPLETE",
    "VerificationFlag": "UNVERIFIED",
    "PreliminaryFlag": "PRELIMINARY",
}

# More than a person has: a hundred litres.
_MOST_ML: Final = 100_000.0


def report_faults(ds: Dataset) -> Iterator[str]:
    """Yield what is wrong with a report (TID 1500)."""
    yield from checks.header_faults(ds, _FLAGS)
    if concept_name(ds) != codes.REPORT or ds.get("ValueType") != "CONTAINER":
        yield f"the root is no container {codes.REPORT.meaning}"
    identifiers = [i.get("TemplateIdentifier") for i in ds.get("ContentTemplateSequence") or ()]
    if identifiers != ["1500"]:
        yield "the root does not name template 1500"
    yield from template.violations(ds, template.REPORT)
    yield from _outcome(ds)
    for group in _groups(ds):
        yield from _group(group)
    tree = checks.nodes(ds)
    yield from checks.code_faults(tree)
    yield from checks.text_faults(tree)
    yield from checks.evidence_faults(ds, tree)
    yield from _companions(ds)
    yield from _observer(ds)


def read_faults(ds: Dataset, read: frozenset[str]) -> Iterator[str]:
    """Compare the evidence, companions apart, with the images that were read."""
    found = inputs_of(ds)
    if found != read:
        yield f"the evidence lists {len(found)} images, {len(read)} were read"


def companions_of(ds: Dataset) -> set[str]:
    """Return the SOP Instance UIDs of captures and segmentations that a report refers to."""
    return {
        str(reference.get("ReferencedSOPInstanceUID"))
        for item in _illustrating(ds)
        for reference in item.get("ReferencedSOPSequence") or ()
    }


def _illustrating(ds: Dataset) -> list[Dataset]:
    """Return the items that refer to companions: in a finding's group, or among the evaluations."""
    inside = [i for group in _groups(ds) for i in _named(_children(group), codes.ILLUSTRATION)]
    below = [
        item
        for item in _below(ds, codes.QUALITATIVE_EVALUATIONS)
        if item.get("ValueType") == "IMAGE"
    ]
    return inside + below


def inputs_of(ds: Dataset) -> set[str]:
    """Return the SOP Instance UIDs of the images that a report was made of."""
    return set(checks.listed(ds)) - companions_of(ds)


def _outcome(ds: Dataset) -> Iterator[str]:
    """There are findings or a coded reason, never both; and a sentence for each finding."""
    evaluations = _below(ds, codes.QUALITATIVE_EVALUATIONS)
    status = _named(evaluations, codes.SUMMARY_OF_ANALYSES)
    reasons = _named(evaluations, codes.REASON_NOT_ANALYSED)
    conclusions = _named(evaluations, codes.CONCLUSION)
    groups = _groups(ds)
    if bool(groups) == bool(status) or len(status) != len(reasons):
        yield "there must be either findings or a coded reason why not"
    if len(conclusions) != max(len(groups), 1):
        yield f"{len(conclusions)} conclusions for {len(groups)} findings"


def _group(group: Dataset) -> Iterator[str]:
    """Compare what the rows of one TID 1501 say."""
    items = list(group.get("ContentSequence") or ())
    verdicts = [i for i in items if concept_value(i) in codes.PRESENCE.values()]
    if len(verdicts) != 1:
        yield f"a measurement group has {len(verdicts)} presences"
        return
    label, presence = concept_name(verdicts[0]), concept_value(verdicts[0])
    findings = [concept_value(i) for i in _named(items, codes.FINDING)]
    if findings != ([label] if presence == codes.PRESENCE[Presence.PRESENT] else []):
        yield f"{label}: Finding must stand where, and only where, it is Present"
    for number in _named(items, codes.PROBABILITY):
        yield from _quantity(number, label, codes.PROBABILITY, codes.PERCENT, 100.0)
    for number in _named(items, codes.VOLUME):
        if presence != codes.PRESENCE[Presence.PRESENT]:
            yield f"{label}: has a volume and is not Present"
        yield from _quantity(number, label, codes.VOLUME, codes.MILLILITRE, _MOST_ML)


def _quantity(
    number: Dataset, label: Code | None, name: Code, unit: Code, most: float
) -> Iterator[str]:
    """Check a NUM (TID 300): of the label of its group, in the unit, from 0 to `most`."""
    what = f"the {name.meaning.lower()}"
    modifiers = [concept_value(i) for i in number.get("ContentSequence") or ()]
    if modifiers != [label]:
        yield f"{label}: {what} does not say of what it is"
    measured = list(number.get("MeasuredValueSequence") or ())
    if len(measured) != 1:
        yield f"{label}: {what} has {len(measured)} values"
        return
    units = [i.get("CodeValue") for i in measured[0].get("MeasurementUnitsCodeSequence") or ()]
    if units != [unit.value]:
        yield f"{label}: {what} is not in {unit.meaning.lower()}"
    if not 0.0 <= float(measured[0].get("NumericValue", -1)) <= most:
        yield f"{label}: {what} is not between 0 and {most:g}"


def _companions(ds: Dataset) -> Iterator[str]:
    """Check that what illustrates is a capture of ours, or one segment of a segmentation."""
    for item in _illustrating(ds):
        if concept_name(item) not in (codes.ILLUSTRATION, None):
            yield f"a companion is referred to as {concept_name(item)}"
        for one in item.get("ReferencedSOPSequence") or ():
            sop_class = one.get("ReferencedSOPClassUID")
            has_segment = bool(one.get("ReferencedSegmentNumber"))
            if sop_class not in (CAPTURE, SEGMENTATION):
                yield f"an illustration is of SOP class {sop_class}"
            elif has_segment and sop_class != SEGMENTATION:
                yield "a capture has no segments"
            if not checks.is_own(one.get("ReferencedSOPInstanceUID")):
                yield "an illustration is no object of ours"


def _observer(ds: Dataset) -> Iterator[str]:
    """Check that the device that observed is the one of the header."""
    items = list(ds.get("ContentSequence") or ())
    for keyword, name, value in (
        ("Manufacturer", codes.DEVICE_MANUFACTURER, "TextValue"),
        ("ManufacturerModelName", codes.DEVICE_MODEL, "TextValue"),
        ("DeviceSerialNumber", codes.DEVICE_SERIAL, "TextValue"),
        ("DeviceUID", codes.DEVICE_UID, "UID"),
    ):
        if {str(i.get(value)) for i in _named(items, name)} != {str(ds.get(keyword))}:
            yield f"{keyword} differs between tree and header"


def _named(items: Collection[Dataset], name: Code) -> list[Dataset]:
    return [item for item in items if concept_name(item) == name]


def _children(item: Dataset) -> list[Dataset]:
    return list(item.get("ContentSequence") or ())


def _below(ds: Dataset, name: Code) -> list[Dataset]:
    return [child for c in _named(_children(ds), name) for child in _children(c)]


def _groups(ds: Dataset) -> list[Dataset]:
    return _named(_below(ds, codes.IMAGING_MEASUREMENTS), codes.MEASUREMENT_GROUP)
