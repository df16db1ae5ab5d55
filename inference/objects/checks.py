"""What the checks of all kinds of objects share; each yields what is wrong, in words.

Words name tags, counts and codes, never a value of the patient's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from .. import codes
from ..reading import Code
from .sources import TYPE_2
from .template import concept_name, concept_value

EVIDENCE: Final = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
_OWN_UIDS: Final = ("SOPInstanceUID", "SeriesInstanceUID", "InstanceCreatorUID")
_NEEDED: Final = (
    "StudyInstanceUID", "SeriesNumber", "InstanceNumber", "ContentDate", "ContentTime",
    "ContentQualification",
)  # fmt: skip
_EQUIPMENT: Final = (
    "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "DeviceUID",
)  # fmt: skip


def header_faults(ds: Dataset, flags: dict[str, object]) -> Iterator[str]:
    """Check what every object of ours has, and the values that its kind has in any case."""
    for keyword, value in flags.items():
        if ds.get(keyword) != value:
            yield f"{keyword} is not {value}"
    for keyword in TYPE_2:
        if keyword not in ds:
            yield f"{keyword} is missing"
    for keyword in _NEEDED:
        if not ds.get(keyword):
            yield f"{keyword} is empty"
    for keyword in _OWN_UIDS:
        if not is_own(ds.get(keyword)):
            yield f"{keyword} is no valid 2.25 UID"
    if not str(ds.get("SeriesDescription", "")).startswith("AI unverified"):
        yield "SeriesDescription does not begin with 'AI unverified'"
    meta = getattr(ds, "file_meta", Dataset())
    if meta.get("MediaStorageSOPInstanceUID", ds.get("SOPInstanceUID")) != ds.get("SOPInstanceUID"):
        yield "the file meta information names another SOP instance"
    if meta.get("MediaStorageSOPClassUID", ds.get("SOPClassUID")) != ds.get("SOPClassUID"):
        yield "the file meta information names another SOP class"
    yield from _equipment_faults(ds)


def _equipment_faults(ds: Dataset) -> Iterator[str]:
    """General and Contributing Equipment tell one device, and tell it fully."""
    own = [i for i in ds.get("ContributingEquipmentSequence") or () if "DeviceUID" in i]
    if len(own) != 1:
        yield f"{len(own)} items of contributing equipment are the device"
        return
    for keyword in _EQUIPMENT:
        if not ds.get(keyword):
            yield f"{keyword} is empty"
        elif ds.get(keyword) != own[0].get(keyword):
            yield f"{keyword} differs between header and contributing equipment"
    if ds.get("DeviceUID") != ds.get("InstanceCreatorUID"):
        yield "Device UID and Instance Creator UID differ"
    if first_code(own[0], "PurposeOfReferenceCodeSequence") != codes.PROCESSING_EQUIPMENT:
        yield "the contributing equipment is no processing equipment"


def is_own(uid: object) -> bool:
    """Tell whether a UID is valid and one that we could have made."""
    return str(uid or "").startswith("2.25.") and UID(str(uid)).is_valid


def first_code(item: Dataset, keyword: str) -> Code | None:
    """Return the first code of a code sequence."""
    listed = item.get(keyword)
    if not listed:
        return None
    words = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    return Code(*(str(listed[0].get(word, "")) for word in words))


def all_items(ds: Dataset) -> Iterator[Dataset]:
    """Yield a data set and all content items below."""
    yield ds
    for child in ds.get("ContentSequence") or ():
        yield from all_items(child)


@dataclass(frozen=True, slots=True)
class Node:
    """A content item, its concept name and, of a CODE, its value."""

    item: Dataset
    name: Code | None
    value: Code | None


def nodes(ds: Dataset) -> list[Node]:
    """Return a data set and all content items below; several checks walk over them."""
    return [Node(item, concept_name(item), concept_value(item)) for item in all_items(ds)]


def code_faults(tree: Collection[Node]) -> Iterator[str]:
    """Check every code of a tree against the frozen table."""
    for node in tree:
        for code in (node.name, node.value):
            fault = None if code is None else codes.fault(code)
            if fault is not None:
                yield fault


def text_faults(tree: Collection[Node]) -> Iterator[str]:
    """All text of a tree is the node's own: ASCII, so that no character set can spoil it."""
    for node in tree:
        item, name = node.item, node.name
        words = [str(item.get("TextValue") or ""), "" if name is None else name.meaning]
        if item.get("ValueType") == "TEXT" and not words[0]:
            yield f"{name}: the text is empty"
        if not all(word.isascii() for word in words):
            yield f"{name}: text beyond ASCII"
        if item.get("ValueType") == "UIDREF" and not UID(str(item.get("UID", ""))).is_valid:
            yield f"{name}: no valid UID"


def listed(ds: Dataset) -> dict[str, str]:
    """Return SOP class by SOP instance of all evidence."""
    return {
        str(reference.get("ReferencedSOPInstanceUID")): str(reference.get("ReferencedSOPClassUID"))
        for series in _series(ds)
        for reference in series.get("ReferencedSOPSequence") or ()
    }


def named(tree: Collection[Node]) -> dict[str, str]:
    """Return SOP class by SOP instance of all that a tree refers to."""
    return {
        str(reference.get("ReferencedSOPInstanceUID")): str(reference.get("ReferencedSOPClassUID"))
        for node in tree
        for reference in node.item.get("ReferencedSOPSequence") or ()
    }


def evidence_faults(ds: Dataset, tree: Collection[Node]) -> Iterator[str]:
    """All that the tree refers to is evidence, of this study, and not the object itself."""
    evidence, used = listed(ds), named(tree)
    missing = [uid for uid in used if uid not in evidence]
    if missing:
        yield f"{len(missing)} images of the tree are no evidence"
    if any(evidence.get(uid, cls) != cls for uid, cls in used.items()):
        yield "tree and evidence tell different SOP classes of one instance"
    studies = {str(s.get("StudyInstanceUID")) for k in EVIDENCE for s in ds.get(k) or ()}
    if studies - {str(ds.get("StudyInstanceUID"))}:
        yield "there is evidence of another study"
    series = {str(series.get("SeriesInstanceUID")) for series in _series(ds)}
    if str(ds.get("SOPInstanceUID")) in evidence or str(ds.get("SeriesInstanceUID")) in series:
        yield "the object stands among its own evidence"


def instance_faults(ds: Dataset, sources: Collection[tuple[str, str]]) -> Iterator[str]:
    """Compare the images that pixels were made of with Referenced Series Sequence (C.12.2)."""
    known = {
        (str(i.get("ReferencedSOPInstanceUID")), str(i.get("ReferencedSOPClassUID")))
        for series in ds.get("ReferencedSeriesSequence") or ()
        for i in series.get("ReferencedInstanceSequence") or ()
    }
    if known != set(sources):
        yield f"{len(set(sources))} source images, but {len(known)} are listed by series"
    for series in ds.get("ReferencedSeriesSequence") or ():
        if series.get("SeriesInstanceUID") in (None, "", ds.get("SeriesInstanceUID")):
            yield "the series of the source images is missing or the object's own"


def source_faults(sources: Collection[Dataset]) -> Iterator[str]:
    """Check the items of a Source Image Sequence."""
    for source in sources:
        if first_code(source, "PurposeOfReferenceCodeSequence") != codes.SOURCE_IMAGE:
            yield "a source image does not say that it is the source of image processing"


def referenced(sources: Collection[Dataset]) -> set[tuple[str, str]]:
    """Return SOP instance and SOP class of items that refer."""
    return {
        (str(s.get("ReferencedSOPInstanceUID")), str(s.get("ReferencedSOPClassUID")))
        for s in sources
    }


def pixel_faults(ds: Dataset, bits: int) -> Iterator[str]:
    """Check that Pixel Data has the length that rows, columns and so on ask for, made even."""
    length = -(-bits // 8)
    found = len(ds.get("PixelData") or b"")
    if bits <= 0 or found != length + length % 2:
        yield f"PixelData has {found} bytes, {length + length % 2} are needed"


def _series(ds: Dataset) -> Iterator[Dataset]:
    for keyword in EVIDENCE:
        for study in ds.get(keyword) or ():
            yield from study.get("ReferencedSeriesSequence") or ()
