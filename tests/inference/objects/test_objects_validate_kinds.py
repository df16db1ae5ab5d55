"""The run-time check of captures, key objects, segmentations and references between them."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from inference import codes
from inference.errors import ObjectError
from inference.objects import object_bytes, validate
from inference.objects.template import concept_name

Damage = tuple[Callable[[Dataset], Any], str]


@pytest.fixture(scope="module")
def stored(
    testdata: Any, stacked: Any, hemorrhage: Any, masked: Any, all_kinds: Any
) -> dict[str, bytes]:
    ct = dcmread(testdata("CT_small.dcm"), stop_before_pixels=True)
    made = all_kinds(masked(hemorrhage(stacked(ct, 6)), (3, 4)))
    return {name: object_bytes(ds) for name, ds in made.items()}


def setting(keyword: str, value: Any) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, keyword, value)


def dropping(keyword: str) -> Callable[[Dataset], Any]:
    return lambda ds: ds.pop(keyword)


def frame(ds: Dataset) -> Dataset:
    return ds.PerFrameFunctionalGroupsSequence[0]


def illustration(ds: Dataset) -> Dataset:
    found = [
        item
        for top in ds.ContentSequence
        if concept_name(top) == codes.IMAGING_MEASUREMENTS
        for group in top.ContentSequence
        for item in group.ContentSequence
        if concept_name(item) == codes.ILLUSTRATION
    ]
    return found[0].ReferencedSOPSequence[0]


EVERY: dict[str, Damage] = {
    "instance uid": (setting("SOPInstanceUID", "1.2.3"), "SOPInstanceUID is no valid"),
    "series uid": (setting("SeriesInstanceUID", "2.25.x"), "SeriesInstanceUID is no valid"),
    "another instance": (setting("SOPInstanceUID", "2.25.7"), "names another SOP instance"),
    "type 2": (dropping("PatientBirthDate"), "PatientBirthDate is missing"),
    "study": (dropping("StudyInstanceUID"), "StudyInstanceUID is empty"),
    "modality": (setting("Modality", "CT"), "Modality is not"),
    "series number": (setting("SeriesNumber", 1), "SeriesNumber is not"),
    "number": (dropping("InstanceNumber"), "InstanceNumber is empty"),
    "time": (dropping("ContentTime"), "ContentTime is empty"),
    "qualification": (dropping("ContentQualification"), "ContentQualification is empty"),
    "description": (setting("SeriesDescription", "Result"), "does not begin with 'AI unverified'"),
    "device": (setting("DeviceUID", "2.25.1"), "DeviceUID differs"),
    "creator": (setting("InstanceCreatorUID", "2.25.1"), "Instance Creator UID differ"),
    "serial": (setting("DeviceSerialNumber", ""), "DeviceSerialNumber is empty"),
    "versions": (setting("SoftwareVersions", "9"), "SoftwareVersions differs"),
    "model": (setting("ManufacturerModelName", "other"), "ManufacturerModelName differs"),
    "no device": (dropping("ContributingEquipmentSequence"), "0 items of contributing equipment"),
    "purpose": (
        lambda ds: ds.ContributingEquipmentSequence[0].pop("PurposeOfReferenceCodeSequence"),
        "no processing equipment",
    ),
}
CAPTURE: dict[str, Damage] = {
    "burned in": (setting("BurnedInAnnotation", "NO"), "BurnedInAnnotation is not YES"),
    "image type": (setting("ImageType", ["ORIGINAL", "PRIMARY"]), "ImageType is not"),
    "conversion": (dropping("ConversionType"), "ConversionType is not"),
    "colour": (setting("PhotometricInterpretation", "YBR_FULL"), "PhotometricInterpretation"),
    "cut off": (lambda ds: setattr(ds, "PixelData", ds.PixelData[:-2]), "PixelData has"),
    "no pixels": (dropping("PixelData"), "PixelData has 0 bytes"),
    "rows": (setting("Rows", 63), "PixelData has"),
    "too large": (setting("Columns", 1025), "larger than 1024"),
    "comment": (setting("ImageComments", "fine"), "ImageComments is empty"),
    "script": (setting("DerivationDescription", "geprüft"), "DerivationDescription is empty"),
    "tracking": (setting("ImageComments", "AI unverified 2.25.x"), "no valid tracking UID"),
    "orientation": (dropping("PatientOrientation"), "PatientOrientation is missing"),
    "no source": (dropping("SourceImageSequence"), "no card of text"),
    "source purpose": (
        lambda ds: ds.SourceImageSequence[0].pop("PurposeOfReferenceCodeSequence"),
        "source of image processing",
    ),
    "other source": (
        lambda ds: setattr(ds.SourceImageSequence[0], "ReferencedSOPInstanceUID", "1.2"),
        "listed by series",
    ),
}
SEGMENTATION: dict[str, Damage] = {
    "kind": (setting("SegmentationType", "FRACTIONAL"), "SegmentationType is not BINARY"),
    "bits": (setting("BitsAllocated", 8), "BitsAllocated is not 1"),
    "cut off": (lambda ds: setattr(ds, "PixelData", ds.PixelData[:-2]), "PixelData has"),
    "frames": (setting("NumberOfFrames", 2), "NumberOfFrames is 2"),
    "no frames": (dropping("PerFrameFunctionalGroupsSequence"), "of 0 frames"),
    "label": (setting("ContentLabel", ""), "ContentLabel is empty"),
    "numbers": (
        lambda ds: setattr(ds.SegmentSequence[0], "SegmentNumber", 7),
        "segments are numbered",
    ),
    "manual": (
        lambda ds: setattr(ds.SegmentSequence[0], "SegmentAlgorithmType", "MANUAL"),
        "not AUTOMATIC",
    ),
    "algorithm": (
        lambda ds: setattr(ds.SegmentSequence[0], "SegmentAlgorithmName", ""),
        "SegmentAlgorithmName is empty",
    ),
    "tracking": (
        lambda ds: setattr(ds.SegmentSequence[0], "TrackingUID", ds.SegmentSequence[1].TrackingUID),
        "tracking UID of its own",
    ),
    "type": (
        lambda ds: setattr(
            ds.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0], "CodeValue", "1386001"
        ),
        "fails its check digit",
    ),
    "category": (
        lambda ds: ds.SegmentSequence[0].pop("SegmentedPropertyCategoryCodeSequence"),
        "no abnormal structure",
    ),
    "segment of a frame": (
        lambda ds: setattr(
            frame(ds).SegmentIdentificationSequence[0], "ReferencedSegmentNumber", 9
        ),
        "do not belong together",
    ),
    "dimensions": (
        lambda ds: frame(ds).pop("FrameContentSequence"),
        "dimension indices",
    ),
    "source": (
        lambda ds: frame(ds).pop("DerivationImageSequence"),
        "0 source images",
    ),
    "position": (
        lambda ds: frame(ds).pop("PlanePositionSequence"),
        "PlanePositionSequence and Frame of Reference",
    ),
    "space": (dropping("FrameOfReferenceUID"), "do not go together"),
    "instances": (dropping("ReferencedSeriesSequence"), "0 are listed by series"),
}
KEY_OBJECTS: dict[str, Damage] = {
    "title": (
        lambda ds: setattr(ds.ConceptNameCodeSequence[0], "CodeValue", "113001"),
        "no container Of Interest",
    ),
    "template": (dropping("ContentTemplateSequence"), "template 2010"),
    "text": (
        lambda ds: setattr(ds.ContentSequence[0], "TextValue", "key images"),
        "does not begin with 'AI unverified'",
    ),
    "no text": (lambda ds: ds.ContentSequence.pop(0), "0 times CONTAINS TEXT"),
    "no images": (
        lambda ds: setattr(ds, "ContentSequence", ds.ContentSequence[:1]),
        "0 times CONTAINS IMAGE",
    ),
    "name": (
        lambda ds: setattr(
            ds.ContentSequence[1], "ConceptNameCodeSequence", ds.ConceptNameCodeSequence
        ),
        "has a concept name",
    ),
    "relationship": (
        lambda ds: setattr(ds.ContentSequence[1], "RelationshipType", "INFERRED FROM"),
        "has no place here",
    ),
    "evidence": (
        dropping("CurrentRequestedProcedureEvidenceSequence"),
        "are no evidence",
    ),
    "too much evidence": (lambda ds: ds.ContentSequence.pop(1), "not what the tree refers to"),
    "class": (
        lambda ds: setattr(
            ds.ContentSequence[1].ReferencedSOPSequence[0], "ReferencedSOPClassUID", "1.2"
        ),
        "different SOP classes",
    ),
    "other study": (
        lambda ds: setattr(
            ds.CurrentRequestedProcedureEvidenceSequence[0], "StudyInstanceUID", "1.2"
        ),
        "another study",
    ),
}
REPORT: dict[str, Damage] = {
    "companion class": (
        lambda ds: setattr(
            illustration(ds), "ReferencedSOPClassUID", "1.2.840.10008.5.1.4.1.1.11.1"
        ),
        "an illustration is of SOP class",
    ),
    "companion of others": (
        lambda ds: setattr(illustration(ds), "ReferencedSOPInstanceUID", "1.2.3"),
        "no object of ours",
    ),
    "companion unlisted": (
        lambda ds: setattr(illustration(ds), "ReferencedSOPInstanceUID", "2.25.3"),
        "are no evidence",
    ),
    "segment of a capture": (
        lambda ds: setattr(illustration(ds), "ReferencedSegmentNumber", 1),
        "a capture has no segments",
    ),
}
OF_KIND = {"sr": REPORT, "sc1": CAPTURE, "seg": SEGMENTATION, "kos": KEY_OBJECTS}
CASES = [
    (name, what, damage)
    for name, damages in OF_KIND.items()
    for what, damage in (EVERY | damages).items()
]


@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, damage) for name, _, damage in CASES],
    ids=[f"{name}-{what}" for name, what, _ in CASES],
)
def test_damage_is_told(name: str, damage: Damage, stored: dict[str, bytes]) -> None:
    change, message = damage
    ds = dcmread(BytesIO(stored[name]))
    change(ds)
    with pytest.raises(ObjectError, match=message):
        validate(ds)


def test_what_was_stored_is_sound(stored: dict[str, bytes]) -> None:
    for data in stored.values():
        validate(dcmread(BytesIO(data)))


@pytest.mark.parametrize("name", ["sr", "sc1", "seg", "kos"])
def test_a_value_that_cannot_be_read_is_no_crash(name: str, stored: dict[str, bytes]) -> None:
    ds = dcmread(BytesIO(stored[name]))
    for keyword in ("Rows", "ContentSequence", "SegmentSequence", "SoftwareVersions"):
        if keyword in ds:
            ds[keyword]._value = object()
    ds.PatientName = "SECRET^NAME"
    with pytest.raises(ObjectError) as caught:
        validate(ds)
    assert "SECRET" not in str(caught.value)
