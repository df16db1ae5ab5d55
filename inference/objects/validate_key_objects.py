"""What must hold of a Key Object Selection Document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset

from .. import codes
from . import checks, template
from .report import ReportClass
from .template import concept_name

_FLAGS: Final[dict[str, object]] = {"Modality": "KO", "SeriesNumber": 9003}


def key_object_faults(ds: Dataset) -> Iterator[str]:
    """Yield what is wrong with a key object selection (TID 2010)."""
    yield from checks.header_faults(ds, _FLAGS)
    yield from template.violations(ds, template.KEY_OBJECTS)
    tree = checks.nodes(ds)
    yield from checks.code_faults(tree)
    yield from checks.text_faults(tree)
    yield from checks.evidence_faults(ds, tree)
    if concept_name(ds) != codes.OF_INTEREST or ds.get("ValueType") != "CONTAINER":
        yield f"the root is no container {codes.OF_INTEREST.meaning}"
    identifiers = [i.get("TemplateIdentifier") for i in ds.get("ContentTemplateSequence") or ()]
    if identifiers != ["2010"]:
        yield "the root does not name template 2010"
    if set(checks.listed(ds)) != set(checks.named(tree)):
        yield "the evidence is not what the tree refers to"
    for item in ds.get("ContentSequence") or ():
        yield from _item_faults(item)


def _item_faults(item: Dataset) -> Iterator[str]:
    kind = item.get("ValueType")
    if kind == "TEXT":
        if not str(item.get("TextValue") or "").startswith("AI unverified"):
            yield "the description does not begin with 'AI unverified'"
        return
    if concept_name(item) is not None:
        yield f"an {kind} reference has a concept name"
    references = item.get("ReferencedSOPSequence") or ()
    if len(references) != 1:
        yield f"an {kind} item has {len(references)} references"
    for one in references:
        is_report = one.get("ReferencedSOPClassUID") in set(ReportClass)
        if is_report != (kind == "COMPOSITE"):
            yield f"an {kind} item refers to SOP class {one.get('ReferencedSOPClassUID')}"
