"""The structured report: PS3.3 A.35.13 (and A.35.3, A.35.2 as fallbacks), TID 1500."""

from __future__ import annotations

import hashlib
from datetime import datetime
from io import BytesIO
from typing import Final

from highdicom import ContributingEquipment
from highdicom.sr import Comprehensive3DSR, ComprehensiveSR, EnhancedSR
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sr.coding import Code as PydicomCode

from .. import codes
from ..errors import ObjectError
from . import sources, uids
from .report import ReportClass, ReportContent
from .tree import content_tree
from .validate import validate_report

SERIES_NUMBER: Final = 9001

_CLASSES: Final = {
    ReportClass.COMPREHENSIVE_3D: Comprehensive3DSR,
    ReportClass.COMPREHENSIVE: ComprehensiveSR,
    ReportClass.ENHANCED: EnhancedSR,
}
# What a digest of the content leaves out: when it was made, the UIDs made from the digest, and the
# images read, which have a digest of their own (encoding 300 of them twice would cost most).
_STAMPED: Final = frozenset(
    {
        "SOPInstanceUID", "SeriesInstanceUID", "InstanceCreationDate", "InstanceCreationTime",
        "SeriesDate", "SeriesTime", "ContentDate", "ContentTime",
        "CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence",
    }
)  # fmt: skip


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
        _stamp(report, content, _digest(report))
        validate_report(report, read=content.source_uids)
    return report


def report_bytes(ds: Dataset) -> bytes:
    """Return the Part 10 file of a report, Explicit VR Little Endian (PS3.10 7)."""
    file = BytesIO()
    with config.disable_value_validation():
        dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


def _assemble(content: ReportContent) -> Dataset:
    """Everything but the time and the UIDs that follow from the content."""
    device, model = content.device, content.model
    versions = [device.software_version, f"{model.name} {model.version}"[:64]]
    placeholder = uids.derive_uid("placeholder")
    try:
        report: Dataset = _CLASSES[content.sop_class](
            evidence=sources.evidence(content.sources),
            content=content_tree(content),
            series_instance_uid=placeholder,
            series_number=SERIES_NUMBER,
            sop_instance_uid=placeholder,
            instance_number=1,
            series_description=_series_description(content),
            manufacturer=device.manufacturer,
            manufacturer_model_name=device.model_name,
            software_versions=versions,
            device_serial_number=device.serial_number,
            content_qualification=content.qualification.value,
            is_complete=True,
            is_final=False,
            is_verified=False,
            specific_character_set=None,
            previous_versions=None if content.predecessor is None else [content.predecessor],
            contributing_equipment=[_equipment(content, versions)],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # highdicom has seen codes and UIDs only, so its words hold no patient data.
        raise ObjectError(
            f"a report on SOP class {content.sources[0].SOPClassUID} cannot be written: {error}"
        ) from error
    requested = sources.requests(content.sources)
    report.update(sources.identity(content.sources[0], requested))
    report.DeviceUID = report.InstanceCreatorUID = uids.device_uid(model)
    if content.not_analysed is not None:
        report.CodingSchemeIdentificationSequence = [_private_scheme()]
    return report


def _series_description(content: ReportContent) -> str:
    if content.not_analysed is not None:
        return f"AI unverified: not analyzed by {content.model.name}"[:64].rstrip()
    return f"AI unverified: {content.reported[0].label.code.meaning}"[:64].rstrip()


def _equipment(content: ReportContent, versions: list[str]) -> ContributingEquipment:
    """PS3.3 C.12.1: the same values as in the tree, so that both tell the same device."""
    device = content.device
    item = ContributingEquipment(
        manufacturer=device.manufacturer,
        purpose_of_reference=PydicomCode(
            codes.PROCESSING_EQUIPMENT.value,
            codes.PROCESSING_EQUIPMENT.scheme,
            codes.PROCESSING_EQUIPMENT.meaning,
        ),
        manufacturer_model_name=device.model_name,
        software_versions=versions,
        device_serial_number=device.serial_number,
        contribution_description="AI inference",
    )
    item.DeviceUID = uids.device_uid(content.model)
    return item


def _private_scheme() -> Dataset:
    """PS3.3 C.12.1.1.2: whose codes the private reasons are."""
    item = Dataset()
    item.CodingSchemeDesignator = codes.PRIVATE_SCHEME
    item.CodingSchemeName = "Preread outcomes"
    item.CodingSchemeResponsibleOrganization = "Preread"
    return item


def _digest(report: Dataset) -> str:
    """Return the SHA-256 of all that the report says, whenever it was made."""
    for item in report.ContributingEquipmentSequence:
        item.pop("ContributionDateTime", None)  # highdicom notes the time for itself
    lasting = Dataset()
    for element in report:
        if element.keyword not in _STAMPED:
            lasting.add(element)
    file = BytesIO()
    dcmwrite(file, lasting, implicit_vr=False, little_endian=True, force_encoding=True)
    return hashlib.sha256(file.getvalue()).hexdigest()


def _stamp(report: Dataset, content: ReportContent, digest: str) -> None:
    """Put in the UIDs and the time.

    Each report is a series of its own: the time, the software and the description belong to the
    series, and a later report must not contradict an earlier one there.
    """
    inputs = uids.input_digest(content.source_uids)
    key = (content.sop_class.value, content.model, inputs, digest)
    report.SOPInstanceUID = uids.object_uid("sr", *key)
    report.SeriesInstanceUID = uids.object_uid("sr-series", *key)
    report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
    when = _local(report, content.created_at)
    for event in ("InstanceCreation", "Series", "Content"):
        setattr(report, f"{event}Date", f"{when:%Y%m%d}")
        setattr(report, f"{event}Time", f"{when:%H%M%S}")
    for item in report.ContributingEquipmentSequence:
        item.ContributionDateTime = f"{when:%Y%m%d%H%M%S%z}"


def _local(report: Dataset, created_at: datetime) -> datetime:
    """Return the time in the zone that the report declares, or in the zone it came with.

    Without a declared zone the dates of the source are local time; `created_at` is taken as given,
    and its offset stands in Contribution DateTime, which is therefore never ambiguous.
    """
    declared = sources.zone(report)
    return created_at if declared is None else created_at.astimezone(declared)
