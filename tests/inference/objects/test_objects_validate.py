"""The run-time check fails closed: every kind of damage is told."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from inference import codes
from inference.errors import ObjectError
from inference.objects import build_report, object_bytes, validate
from inference.objects.template import concept_name
from inference.reading import Code


@pytest.fixture(scope="module")
def stored(testdata: Any, pneumothorax: Any) -> bytes:
    chest = dcmread(testdata("RG1_UNCR.dcm"), stop_before_pixels=True)
    return object_bytes(build_report(pneumothorax(chest)))


@pytest.fixture
def report(stored: bytes) -> Dataset:
    return dcmread(BytesIO(stored))


def item(ds: Dataset, *names: Code) -> Dataset:
    for name in names:
        (ds,) = (i for i in ds.ContentSequence if concept_name(i) == name)
    return ds


def group(ds: Dataset) -> Dataset:
    return item(ds, codes.IMAGING_MEASUREMENTS, codes.MEASUREMENT_GROUP)


def drop(parent: Dataset, name: Code) -> None:
    parent.ContentSequence = [i for i in parent.ContentSequence if concept_name(i) != name]


def evaluations(ds: Dataset) -> Dataset:
    return item(ds, codes.QUALITATIVE_EVALUATIONS)


def number(ds: Dataset) -> Dataset:
    return item(group(ds), codes.PROBABILITY)


def setting(keyword: str, value: Any) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, keyword, value)


DAMAGE: dict[str, tuple[Callable[[Dataset], Any], str]] = {
    "wrong class": (
        setting("SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.11"),
        "no class of result object",
    ),
    "final": (setting("PreliminaryFlag", "FINAL"), "PreliminaryFlag"),
    "verified": (setting("VerificationFlag", "VERIFIED"), "VerificationFlag"),
    "type 2": (lambda ds: ds.pop("StudyID"), "StudyID is missing"),
    "uid": (setting("SOPInstanceUID", "1.2.3"), "SOPInstanceUID is no valid"),
    "description": (setting("SeriesDescription", "Result"), "SeriesDescription"),
    "template": (lambda ds: ds.pop("ContentTemplateSequence"), "template 1500"),
    "root": (
        lambda ds: setattr(ds.ConceptNameCodeSequence[0], "CodeValue", "126001"),
        "the root is no container",
    ),
    "no observer": (lambda ds: drop(ds, codes.OBSERVER_TYPE), "0 times HAS OBS CONTEXT CODE"),
    "no library": (lambda ds: drop(ds, codes.IMAGE_LIBRARY), "0 times CONTAINS CONTAINER Image"),
    "no comment": (
        lambda ds: drop(evaluations(ds), codes.COMMENT),
        "0 times CONTAINS TEXT Comment",
    ),
    "no conclusion": (lambda ds: drop(evaluations(ds), codes.CONCLUSION), "0 conclusions"),
    "no outcome": (lambda ds: drop(ds, codes.IMAGING_MEASUREMENTS), "either findings or a coded"),
    "relationship": (
        lambda ds: setattr(item(group(ds), codes.FINDING_SITE), "RelationshipType", "CONTAINS"),
        "Finding Site: CONTAINS CODE has no place here|no permitted value",
    ),
    "order": (
        lambda ds: setattr(ds, "ContentSequence", list(ds.ContentSequence)[::-1]),
        "stands after",
    ),
    "no finding": (lambda ds: drop(group(ds), codes.FINDING), "Finding must stand where"),
    "no modifier": (lambda ds: number(ds).pop("ContentSequence"), "does not say of what"),
    "range": (
        lambda ds: setattr(number(ds).MeasuredValueSequence[0], "NumericValue", 930),
        "not between 0 and 100",
    ),
    "no number": (lambda ds: setattr(number(ds), "MeasuredValueSequence", []), "has 0 values"),
    "unit": (
        lambda ds: setattr(
            number(ds).MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0], "CodeValue", "1"
        ),
        "not in percent",
    ),
    "check digit": (
        lambda ds: setattr(
            item(group(ds), codes.FINDING_SITE).ConceptCodeSequence[0], "CodeValue", "3120009"
        ),
        "fails its check digit",
    ),
    "meaning": (
        lambda ds: setattr(
            item(group(ds), codes.FINDING).ConceptCodeSequence[0], "CodeMeaning", "Hemothorax"
        ),
        "means 'Pneumothorax'",
    ),
    "script": (
        lambda ds: setattr(item(evaluations(ds), codes.COMMENT), "TextValue", "geprüft"),
        "beyond ASCII",
    ),
    "empty text": (
        lambda ds: setattr(item(evaluations(ds), codes.CONCLUSION), "TextValue", ""),
        "text is empty",
    ),
    "tracking": (lambda ds: setattr(item(group(ds), codes.TRACKING_UID), "UID", "x"), "valid UID"),
    "evidence": (
        lambda ds: ds.pop("CurrentRequestedProcedureEvidenceSequence"),
        "images of the tree are no evidence",
    ),
    "device": (
        lambda ds: setattr(ds.ContributingEquipmentSequence[0], "DeviceUID", "2.25.1"),
        "DeviceUID differs",
    ),
    "no device": (
        lambda ds: ds.ContributingEquipmentSequence[0].pop("DeviceUID"),
        "0 items of contributing equipment",
    ),
    "manufacturer": (setting("Manufacturer", "Other"), "Manufacturer differs"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_told(kind: str, report: Dataset) -> None:
    damage, message = DAMAGE[kind]
    validate(report)
    damage(report)
    with pytest.raises(ObjectError, match=message):
        validate(report)


def test_evidence_must_be_what_was_read(report: Dataset, chest: Dataset) -> None:
    validate(report, read=[chest.SOPInstanceUID])
    with pytest.raises(ObjectError, match="2 were read"):
        validate(report, read=[chest.SOPInstanceUID, "1.2.3"])


def test_all_violations_are_named_at_once(report: Dataset) -> None:
    report.PreliminaryFlag = "FINAL"
    drop(group(report), codes.FINDING)
    with pytest.raises(ObjectError, match=r"PreliminaryFlag.*Finding must stand"):
        validate(report)


def test_a_message_holds_no_patient_data(report: Dataset) -> None:
    report.PreliminaryFlag = "FINAL"
    report.PatientName = "SECRET^NAME"
    with pytest.raises(ObjectError) as caught:
        validate(report)
    assert "SECRET" not in str(caught.value)


def test_a_wrong_code_of_a_bundle_does_not_leave_the_house(
    chest: Dataset, pneumothorax: Any
) -> None:
    import dataclasses

    content = pneumothorax(chest)
    finding = content.reading.findings[0]
    label = dataclasses.replace(finding.label, code=Code("83329005", "SCT", "Pneumothorax"))
    reading = dataclasses.replace(
        content.reading, findings=(dataclasses.replace(finding, label=label),)
    )
    with pytest.raises(ObjectError, match="check digit"):
        build_report(dataclasses.replace(content, reading=reading))


def test_any_data_set_is_judged_without_a_crash(ct: Dataset) -> None:
    for ds in (Dataset(), ct):
        with pytest.raises(ObjectError, match="is invalid"):
            validate(ds)
