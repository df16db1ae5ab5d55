"""The check that every report passes before anything is stored; it fails closed.

Validators of the field miss wrong relationships inside a template, archives accept invalid
objects, and neither runs in a hospital: so the node checks its own template and its own promises.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pydicom.dataset import Dataset
from pydicom.uid import UID

from .. import codes
from ..errors import ObjectError
from ..reading import Code, Presence
from . import template
from .report import ReportClass
from .sources import TYPE_2
from .template import concept_name, concept_value

_FLAGS = {
    "Modality": "SR",
    "CompletionFlag": "COMPLETE",
    "VerificationFlag": "UNVERIFIED",
    "PreliminaryFlag": "PRELIMINARY",
}
_OWN_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "InstanceCreatorUID")
_EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")


def validate_report(ds: Dataset, *, read: Collection[str] = ()) -> None:
    """Check a structured report against our template and promises.

    Parameters
    ----------
    ds : Dataset
        The report, built or read back.
    read : collection of str
        SOP Instance UIDs of all images read, where they are known: the evidence must be these.

    Raises
    ------
    ObjectError
        Naming everything that is wrong.
    """
    found = [
        *_header(ds),
        *template.violations(ds, template.REPORT),
        *_outcome(ds),
        *(fault for group in _groups(ds) for fault in _group(group)),
        *_codes(ds),
        *_text(ds),
        *_evidence(ds, frozenset(read)),
        *_equipment(ds),
    ]
    if found:
        raise ObjectError(f"the report {ds.get('SOPInstanceUID')} is invalid: " + "; ".join(found))


def _header(ds: Dataset) -> Iterator[str]:
    if ds.get("SOPClassUID") not in set(ReportClass):
        yield f"SOPClassUID {ds.get('SOPClassUID')} is no class of report"
    for keyword, value in _FLAGS.items():
        if ds.get(keyword) != value:
            yield f"{keyword} is not {value}"
    for keyword in TYPE_2:
        if keyword not in ds:
            yield f"{keyword} is missing"
    for keyword in ("ContentDate", "ContentTime", "SeriesNumber", "InstanceNumber", "Manufacturer"):
        if not ds.get(keyword):
            yield f"{keyword} is empty"
    for keyword in _OWN_UIDS:
        value = str(ds.get(keyword) or "")
        if not value.startswith("2.25.") or not UID(value).is_valid:
            yield f"{keyword} is no valid 2.25 UID"
    if ds.get("SOPInstanceUID") in _referenced(ds) or ds.get("SeriesInstanceUID") in _series(ds):
        yield "the report stands among its own evidence"
    if not str(ds.get("SeriesDescription", "")).startswith("AI unverified"):
        yield "SeriesDescription does not begin with 'AI unverified'"
    if concept_name(ds) != codes.REPORT or ds.get("ValueType") != "CONTAINER":
        yield f"the root is no container {codes.REPORT.meaning}"
    identifiers = [i.get("TemplateIdentifier") for i in ds.get("ContentTemplateSequence") or ()]
    if identifiers != ["1500"]:
        yield "the root does not name template 1500"


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
        modifiers = [concept_value(i) for i in number.get("ContentSequence") or ()]
        if modifiers != [label]:
            yield f"{label}: the probability does not say of what it is"
        yield from _percentage(number, label)


def _percentage(number: Dataset, label: Code | None) -> Iterator[str]:
    measured = list(number.get("MeasuredValueSequence") or ())
    if len(measured) != 1:
        yield f"{label}: the probability has {len(measured)} values"
        return
    units = [i.get("CodeValue") for i in measured[0].get("MeasurementUnitsCodeSequence") or ()]
    if units != [codes.PERCENT.value]:
        yield f"{label}: the probability is not in percent"
    if not 0.0 <= float(measured[0].get("NumericValue", -1)) <= 100.0:
        yield f"{label}: the probability is not between 0 and 100"


def _codes(ds: Dataset) -> Iterator[str]:
    for item in _items(ds):
        for code in (concept_name(item), concept_value(item)):
            fault = None if code is None else codes.fault(code)
            if fault is not None:
                yield fault


def _text(ds: Dataset) -> Iterator[str]:
    """All text of the tree is the node's own: ASCII, so that no character set can spoil it."""
    for item in _items(ds):
        name = concept_name(item)
        words = [str(item.get("TextValue") or ""), "" if name is None else name.meaning]
        if item.get("ValueType") == "TEXT" and not words[0]:
            yield f"{name}: the text is empty"
        if not all(word.isascii() for word in words):
            yield f"{name}: text beyond ASCII"
        if item.get("ValueType") == "UIDREF" and not UID(str(item.get("UID", ""))).is_valid:
            yield f"{name}: no valid UID"


def _evidence(ds: Dataset, read: frozenset[str]) -> Iterator[str]:
    listed = _referenced(ds)
    named = {
        str(reference.ReferencedSOPInstanceUID)
        for item in _items(ds)
        for reference in item.get("ReferencedSOPSequence") or ()
    }
    if named - listed:
        yield f"{len(named - listed)} images of the tree are no evidence"
    if read and listed != read:
        yield f"the evidence lists {len(listed)} images, {len(read)} were read"


def _equipment(ds: Dataset) -> Iterator[str]:
    """Contributing Equipment and General Equipment tell the same device as the tree."""
    items = list(ds.get("ContentSequence") or ())
    own = [i for i in ds.get("ContributingEquipmentSequence") or () if "DeviceUID" in i]
    if len(own) != 1:
        yield f"{len(own)} items of contributing equipment are the device"
        return
    device = own[0]
    for keyword, name in (
        ("Manufacturer", codes.DEVICE_MANUFACTURER),
        ("ManufacturerModelName", codes.DEVICE_MODEL),
        ("DeviceSerialNumber", codes.DEVICE_SERIAL),
    ):
        told = {str(i.get("TextValue")) for i in _named(items, name)}
        if told != {str(device.get(keyword))} or told != {str(ds.get(keyword))}:
            yield f"{keyword} differs between tree, header and contributing equipment"
    told = {str(i.get("UID")) for i in _named(items, codes.DEVICE_UID)}
    if {str(device.DeviceUID), str(ds.get("InstanceCreatorUID")), str(ds.get("DeviceUID"))} != told:
        yield "the Device UID differs between tree, header and contributing equipment"
    if not ds.get("SoftwareVersions") or ds.SoftwareVersions != device.get("SoftwareVersions"):
        yield "SoftwareVersions differs between header and contributing equipment"


def _items(ds: Dataset) -> Iterator[Dataset]:
    yield ds
    for child in ds.get("ContentSequence") or ():
        yield from _items(child)


def _named(items: Collection[Dataset], name: Code) -> list[Dataset]:
    return [item for item in items if concept_name(item) == name]


def _below(ds: Dataset, name: Code) -> list[Dataset]:
    containers = _named(list(ds.get("ContentSequence") or ()), name)
    return [child for c in containers for child in c.get("ContentSequence") or ()]


def _groups(ds: Dataset) -> list[Dataset]:
    return _named(_below(ds, codes.IMAGING_MEASUREMENTS), codes.MEASUREMENT_GROUP)


def _listed_series(ds: Dataset) -> Iterator[Dataset]:
    for keyword in _EVIDENCE:
        for study in ds.get(keyword) or ():
            yield from study.get("ReferencedSeriesSequence") or ()


def _series(ds: Dataset) -> set[str]:
    return {str(series.SeriesInstanceUID) for series in _listed_series(ds)}


def _referenced(ds: Dataset) -> set[str]:
    return {
        str(reference.ReferencedSOPInstanceUID)
        for series in _listed_series(ds)
        for reference in series.get("ReferencedSOPSequence") or ()
    }
