"""The header that all objects of an analysis share: patient, study, request, series, equipment."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from .. import codes
from ..reading import Code
from . import uids
from .content import AnalysisContent

# The node's own (PS3.7 D.3.3.2.1); the receiver writes the same into files that come in.
IMPLEMENTATION_CLASS_UID: Final = UID("2.25.129952454429659626447457658158947351020")


def header(
    content: AnalysisContent,
    sop_class_uid: str,
    *,
    modality: str,
    series_number: int,
    requested_as: str,
) -> Dataset:
    """Return a data set with everything but its content, its UIDs and its times.

    Parameters
    ----------
    content : AnalysisContent
    sop_class_uid, modality : str
    series_number : int
        One per kind of object, so that a PACS sorts them behind the images.
    requested_as : str
        The sequence in which this kind of object tells its requests; see `Headers.identity`.
    """
    ds = content.headers.identity(requested_as)
    ds.SOPClassUID = UID(sop_class_uid)
    ds.Modality = modality
    ds.SeriesNumber = series_number
    ds.SeriesDescription = content.series_description
    ds.InstanceNumber = 1
    ds.ContentQualification = content.qualification.value
    _put_equipment(ds, content)
    ds.file_meta = file_meta(sop_class_uid, content.device.software_version)
    return ds


def file_meta(sop_class_uid: str, software_version: str) -> FileMetaDataset:
    """Return File Meta Information (PS3.10 7.1) that still lacks the SOP Instance UID.

    The implementation is the node, not the library that it writes with: an update of that library
    must not change stored bytes.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = f"PREREAD_{software_version}"[:16].rstrip()
    return meta


def coded(code: Code) -> Dataset:
    """Return a code as an item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item


def reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Return the item of a Referenced SOP Sequence (PS3.3 10.8)."""
    item = Dataset()
    item.ReferencedSOPClassUID = UID(sop_class_uid)
    item.ReferencedSOPInstanceUID = UID(sop_instance_uid)
    return item


def source_reference(image: Dataset, frame: int) -> Dataset:
    """Return the item of Source Image Sequence (0008,2112) for one frame, counted from 0."""
    item = reference(image.SOPClassUID, image.SOPInstanceUID)
    if int(image.get("NumberOfFrames") or 1) > 1:
        item.ReferencedFrameNumber = frame + 1
    item.PurposeOfReferenceCodeSequence = [coded(codes.SOURCE_IMAGE)]
    return item


def hierarchy(instances: Iterable[Dataset]) -> list[Dataset]:
    """Return the items of an evidence sequence: studies, their series, their instances (C.17.2)."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for instance in instances:
        study = studies.setdefault(str(instance.StudyInstanceUID), {})
        listed = study.setdefault(str(instance.SeriesInstanceUID), [])
        listed.append(reference(instance.SOPClassUID, instance.SOPInstanceUID))
    items = []
    for study_uid, series in studies.items():
        item = Dataset()
        item.StudyInstanceUID = study_uid
        item.ReferencedSeriesSequence = _series_items(series)
        items.append(item)
    return items


def referenced_series(instances: Iterable[Dataset]) -> list[Dataset]:
    """Return Referenced Series Sequence (0008,1115) of Common Instance Reference (C.12.2)."""
    series: dict[str, list[Dataset]] = {}
    for instance in instances:
        listed = series.setdefault(str(instance.SeriesInstanceUID), [])
        listed.append(reference(instance.SOPClassUID, instance.SOPInstanceUID))
    return _series_items(series, "ReferencedInstanceSequence")


def _series_items(
    series: dict[str, list[Dataset]], instances_as: str = "ReferencedSOPSequence"
) -> list[Dataset]:
    items = []
    for series_uid, listed in series.items():
        item = Dataset()
        item.SeriesInstanceUID = series_uid
        setattr(item, instances_as, listed)
        items.append(item)
    return items


def _put_equipment(ds: Dataset, content: AnalysisContent) -> None:
    """General Equipment, and PS3.3 C.12.1 with the same values: both tell the same device."""
    device, item = content.device, Dataset()
    for part in (ds, item):
        part.Manufacturer = device.manufacturer
        part.ManufacturerModelName = device.model_name
        part.DeviceSerialNumber = device.serial_number
        part.SoftwareVersions = copy.copy(content.versions)
        part.DeviceUID = uids.device_uid(content.model)
    item.PurposeOfReferenceCodeSequence = [coded(codes.PROCESSING_EQUIPMENT)]
    item.ContributionDescription = "AI inference"
    ds.InstanceCreatorUID = uids.device_uid(content.model)
    ds.ContributingEquipmentSequence = [item]
