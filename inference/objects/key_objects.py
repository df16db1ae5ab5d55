"""Key Object Selection (PS3.3 A.35.4, TID 2010): the slices that a person should look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydicom import config
from pydicom.dataset import Dataset

from .. import codes
from ..errors import ObjectError
from ..reading import Finding, Presence
from . import stamp, uids
from .content import AnalysisContent, shown
from .header import coded, header, hierarchy, reference
from .report import (
    CAPTURE,
    KEY_OBJECTS,
    SEGMENTATION,
    ReportClass,
    percent,
    require_companions,
)
from .tree import ascii_text
from .validate import validate

SERIES_NUMBER: Final = 9003
ROLE: Final = "kos"
_IMAGES: Final = (CAPTURE, SEGMENTATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyObjectsContent(AnalysisContent):
    """Everything that one selection says.

    Attributes
    ----------
    companions : tuple of Dataset
        Captures, segmentations and the report that explain the selection; headers are enough.
        Give only those that go where the selection goes: each is referenced.
    """

    companions: tuple[Dataset, ...] = ()

    def __post_init__(self) -> None:
        AnalysisContent.__post_init__(self)  # a class with slots has no super() without arguments
        require_companions(self.companions, self, (*_IMAGES, *ReportClass))
        if not self.selected:
            raise ObjectError("no finding that may be present has a key image: nothing to select")

    @property
    def selecting(self) -> tuple[Finding, ...]:
        """The findings whose images are selected: those that are not absent."""
        return tuple(f for f in self.reported if f.presence is not Presence.ABSENT and shown(f))

    @property
    def selected(self) -> tuple[Dataset, ...]:
        """The key images, in the order of the sources."""
        wanted = {uid for finding in self.selecting for uid in shown(finding)}
        return tuple(s for s in self.sources if str(s.SOPInstanceUID) in wanted)


def build_key_objects(content: KeyObjectsContent) -> Dataset:
    """Return the complete Key Object Selection Document.

    Parameters
    ----------
    content : KeyObjectsContent
        Its data sets are not changed.

    Returns
    -------
    Dataset
        With file meta information; equal for equal contents, byte for byte. All it refers to is of
        one study, so it has no Identical Documents; and this IOD has no Predecessor Documents: what
        replaces what, the report tells.

    Raises
    ------
    ObjectError
        When the document breaks its template.
    """
    with config.disable_value_validation():  # pydicom's warnings quote a patient's values
        document = header(
            content,
            KEY_OBJECTS,
            modality="KO",
            series_number=SERIES_NUMBER,
            requested_as="ReferencedRequestSequence",
        )
        document.ReferencedPerformedProcedureStepSequence = []
        document.CurrentRequestedProcedureEvidenceSequence = hierarchy(
            (*content.selected, *content.companions)
        )
        _put_tree(document, content)
        device = uids.device_uid(content.model)
        stamp.put_uids(document, ROLE, device, content.companion_inputs, stamp.digest(document))
        stamp.put_times(document, content.created_at)
        validate(document)
    return document


def _put_tree(document: Dataset, content: KeyObjectsContent) -> None:
    template = Dataset()
    template.MappingResource = "DCMR"
    template.TemplateIdentifier = "2010"
    document.ContentTemplateSequence = [template]
    document.ValueType = "CONTAINER"
    document.ContinuityOfContent = "SEPARATE"
    document.ConceptNameCodeSequence = [coded(codes.OF_INTEREST)]
    text = _item("TEXT")
    text.ConceptNameCodeSequence = [coded(codes.KEY_OBJECT_DESCRIPTION)]
    text.TextValue = _description(content)
    images = [c for c in content.companions if str(c.SOPClassUID) in _IMAGES]
    reports = [c for c in content.companions if str(c.SOPClassUID) not in _IMAGES]
    document.ContentSequence = [
        text,
        *(_reference("IMAGE", one) for one in (*content.selected, *images)),
        *(_reference("COMPOSITE", one) for one in reports),
    ]


def _item(value_type: str) -> Dataset:
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = value_type
    return item


def _reference(value_type: str, instance: Dataset) -> Dataset:
    item = _item(value_type)
    item.ReferencedSOPSequence = [reference(instance.SOPClassUID, instance.SOPInstanceUID)]
    return item


def _description(content: KeyObjectsContent) -> str:
    told = (
        f"{content.title(f)}: {f.presence},"
        f" AI probability {percent(f.probability, f.label.thresholds):.15g} %"
        for f in content.selecting
    )
    return ascii_text(
        f"AI unverified, not for primary diagnosis: {len(content.selected)} key images of"
        f" {len(content.sources)}. {'; '.join(told)}."
    )
