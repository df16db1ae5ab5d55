"""The structured report: PS3.3 A.35.13 (and A.35.3, A.35.2 as fallbacks), TID 1500."""

from __future__ import annotations

from typing import Final

from pydicom import config
from pydicom.dataset import Dataset

from .. import codes
from ..errors import ObjectError
from . import stamp, uids
from .header import header, hierarchy
from .report import ReportContent
from .tree import content_tree
from .validate import validate

SERIES_NUMBER: Final = 9001
ROLE: Final = "sr"
# Left out of the digest of the content: the images have one of their own (to encode 300 of them
# twice would cost most), and companions are told in the tree.
EVIDENCE: Final = "CurrentRequestedProcedureEvidenceSequence"


def build_report(content: ReportContent) -> Dataset:
    """Return the complete structured report.

    Parameters
    ----------
    content : ReportContent
        Its data sets are not changed.

    Returns
    -------
    Dataset
        With file meta information; equal for equal contents, byte for byte. The SOP Instance UID
        does not depend on `created_at`, so a repeated analysis cannot make a second instance.

    Raises
    ------
    ObjectError
        When the content cannot be written, or the report breaks its template.
    """
    # pydicom's warnings quote values, and these are a patient's.
    with config.disable_value_validation():
        report = _assemble(content)
        device = uids.device_uid(content.model)
        stamp.put_uids(report, ROLE, device, content.inputs, stamp.digest(report, {EVIDENCE}))
        stamp.put_times(report, content.created_at)
        validate(report, read=content.source_uids)
    return report


def _assemble(content: ReportContent) -> Dataset:
    """Everything but the time and the UIDs that follow from the content."""
    report = header(
        content,
        content.sop_class.value,
        modality="SR",
        series_number=SERIES_NUMBER,
        requested_as="ReferencedRequestSequence",
    )
    report.CompletionFlag = "COMPLETE"
    report.VerificationFlag = "UNVERIFIED"
    report.PreliminaryFlag = "PRELIMINARY"
    report.PerformedProcedureCodeSequence = []
    report.ReferencedPerformedProcedureStepSequence = []
    report.CurrentRequestedProcedureEvidenceSequence = hierarchy(
        (*content.sources, *content.companions)
    )
    if content.predecessor is not None:
        report.PredecessorDocumentsSequence = hierarchy([content.predecessor])
    if content.not_analysed is not None:
        report.CodingSchemeIdentificationSequence = [private_scheme()]
    try:
        report.update(content_tree(content))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # highdicom has seen codes and UIDs only, so its words hold no patient data.
        raise ObjectError(
            f"a report on SOP class {content.sources[0].SOPClassUID} cannot be written: {error}"
        ) from error
    return report


def private_scheme() -> Dataset:
    """PS3.3 C.12.1.1.2: whose codes the private reasons are."""
    item = Dataset()
    item.CodingSchemeDesignator = codes.PRIVATE_SCHEME
    item.CodingSchemeName = "Preread outcomes"
    item.CodingSchemeResponsibleOrganization = "Preread"
    return item
