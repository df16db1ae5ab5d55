"""A report as text for a terminal: the content tree, one line per content item.

How key images lie in space (acquisition context) is for machines and left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from .template import concept_name, concept_value

_INDENT = "  "


def render(ds: Dataset) -> str:
    """Return a structured report as indented lines.

    Parameters
    ----------
    ds : Dataset
        A report; nothing but its tree, flags, patient and references is read.
    """
    evidence = sum(
        len(series.get("ReferencedSOPSequence") or ())
        for study in ds.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.get("ReferencedSeriesSequence") or ()
    )
    flags = ("CompletionFlag", "PreliminaryFlag", "VerificationFlag", "ContentQualification")
    lines = [
        f"{_name(ds)} ({', '.join(str(ds[word].value) for word in flags if word in ds)})",
        f"{_INDENT}Patient: {ds.get('PatientName', '')} [{ds.get('PatientID', '')}]",
        f"{_INDENT}Study: {ds.get('StudyInstanceUID', '')}",
        f"{_INDENT}Images read: {evidence}",
        *_lines(ds, depth=1),
    ]
    return "\n".join(lines) + "\n"


def _lines(item: Dataset, depth: int) -> Iterator[str]:
    for child in item.get("ContentSequence") or ():
        if child.get("RelationshipType") == "HAS ACQ CONTEXT":
            continue
        value = text_value(child)
        yield f"{_INDENT * depth}{_name(child)}" + (f": {value}" if value else "")
        yield from _lines(child, depth + 1)


def _name(item: Dataset) -> str:
    name = concept_name(item)
    return str(item.get("ValueType", "?")) if name is None else name.meaning


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
        return str(reference.get("ReferencedSOPInstanceUID", ""))
    words = ("TextValue", "UID", "DateTime", "Date", "Time", "PersonName")
    return next((str(item[word].value) for word in words if word in item), "")
