"""The structured report."""

from __future__ import annotations

import copy
import dataclasses
import logging
import time
import warnings
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset

from inference import codes
from inference.errors import ObjectError
from inference.objects import (
    DeviceIdentity,
    Qualification,
    ReportClass,
    ReportContent,
    build_report,
    object_bytes,
    uids,
)
from inference.objects.report import percent
from inference.objects.template import concept_name, concept_value
from inference.reading import Code, NotAnalysed, Presence, Reading, Thresholds


def items(ds: Dataset, name: Code) -> list[Dataset]:
    """Return all content items of a name, at any depth."""
    found = [ds] if concept_name(ds) == name else []
    for child in ds.get("ContentSequence") or ():
        found += items(child, name)
    return found


def groups(ds: Dataset) -> list[Dataset]:
    return items(ds, codes.MEASUREMENT_GROUP)


def verdict(group: Dataset) -> str:
    values = [concept_value(item) for item in group.ContentSequence]
    (found,) = [v for v in values if v in codes.PRESENCE.values()]
    assert found is not None
    return found.meaning


def test_a_present_finding(chest: Dataset, pneumothorax: Any) -> None:
    ds = build_report(pneumothorax(chest, 0.93))
    (group,) = groups(ds)
    assert verdict(group) == "Present"
    assert [
        concept_value(i) for i in group.ContentSequence if concept_name(i) == codes.FINDING
    ] == [codes.PNEUMOTHORAX]
    (number,) = items(ds, codes.PROBABILITY)
    assert number.MeasuredValueSequence[0].NumericValue == 93.0
    assert concept_value(number.ContentSequence[0]) == codes.PNEUMOTHORAX
    (conclusion,) = items(ds, codes.CONCLUSION)
    assert conclusion.TextValue == (
        "Pneumothorax: Present, AI probability 93 % (Present from 60 %, Absent below 30 %)."
    )
    (comment,) = items(ds, codes.COMMENT)
    assert "Not for primary diagnosis" in comment.TextValue and "unverified" in comment.TextValue


@pytest.mark.parametrize(("probability", "word"), [(0.02, "Absent"), (0.45, "Undetermined")])
def test_what_is_not_present_has_a_probability_and_no_finding(
    probability: float, word: str, chest: Dataset, pneumothorax: Any
) -> None:
    ds = build_report(pneumothorax(chest, probability))
    (group,) = groups(ds)
    assert verdict(group) == word
    assert codes.FINDING not in [concept_name(i) for i in group.ContentSequence]
    assert len(items(ds, codes.PROBABILITY)) == 1
    assert word in items(ds, codes.CONCLUSION)[0].TextValue


def test_hemorrhage_lists_labels_not_slices(series: list[Dataset], hemorrhage: Any) -> None:
    ds = build_report(hemorrhage(series))
    assert [verdict(g) for g in groups(ds)] == [
        "Present", "Absent", "Present", "Undetermined", "Absent", "Absent",
    ]  # fmt: skip
    assert len(items(ds, codes.CONCLUSION)) == 6
    library = {i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in items(ds, codes.SOURCE)}
    keys = {s.SOPInstanceUID for s in series[14:17]}
    assert library == keys
    marked = items(groups(ds)[0], codes.SOURCE_OF_MEASUREMENT)
    assert {i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in marked} == keys
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    (listed,) = study.ReferencedSeriesSequence
    assert len(listed.ReferencedSOPSequence) == 28


def test_labels_that_share_a_code_are_told_apart(series: list[Dataset], hemorrhage: Any) -> None:
    sentences = [i.TextValue for i in items(build_report(hemorrhage(series)), codes.CONCLUSION)]
    assert len(set(sentences)) == 6
    assert any("site: Brain ventricle" in sentence for sentence in sentences)


def test_without_key_images_the_library_still_has_one(
    series: list[Dataset], hemorrhage: Any
) -> None:
    ds = build_report(hemorrhage(series, probabilities=[0.01] * 6))
    assert len(items(ds, codes.SOURCE)) == 1


@pytest.mark.parametrize("code", list(NotAnalysed))
def test_not_analysed_is_coded_and_has_no_probability(
    code: NotAnalysed, ct: Dataset, not_analysed: Any
) -> None:
    ds = build_report(not_analysed(ct, code, "3 of 28 slices are missing (gap \u2265 5\xa0mm)"))
    assert not groups(ds) and not items(ds, codes.PROBABILITY)
    assert concept_value(items(ds, codes.SUMMARY_OF_ANALYSES)[0]) == codes.NOT_ATTEMPTED
    assert concept_value(items(ds, codes.REASON_NOT_ANALYSED)[0]) == codes.NOT_ANALYSED[code]
    (sentence,) = items(ds, codes.CONCLUSION)
    assert "3 of 28 slices are missing" in sentence.TextValue and sentence.TextValue.isascii()
    assert ds.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99PREREAD"


def test_header(chest: Dataset, pneumothorax: Any) -> None:
    ds = build_report(pneumothorax(chest))
    assert ds.StudyInstanceUID == chest.StudyInstanceUID
    assert ds.SeriesInstanceUID != chest.SeriesInstanceUID
    assert (ds.CompletionFlag, ds.VerificationFlag, ds.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    assert ds.ContentQualification == "RESEARCH"
    assert ds.SeriesDescription.startswith("AI unverified: ")
    own = [i for i in ds.ContributingEquipmentSequence if "DeviceUID" in i]
    assert len(own) == 1
    assert own[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    told = items(ds, codes.DEVICE_UID)[0].UID
    assert told == own[0].DeviceUID == ds.DeviceUID == ds.InstanceCreatorUID
    assert items(ds, codes.DEVICE_MANUFACTURER)[0].TextValue == own[0].Manufacturer
    assert items(ds, codes.DEVICE_MODEL)[0].TextValue == own[0].ManufacturerModelName
    assert items(ds, codes.DEVICE_NAME)[0].TextValue == "PREREAD"
    assert "ptx-densenet 1.0.0" in ds.SoftwareVersions


def test_qualification_is_the_callers(chest: Dataset, pneumothorax: Any) -> None:
    ds = build_report(pneumothorax(chest, qualification=Qualification.PRODUCT))
    assert ds.ContentQualification == "PRODUCT"


@pytest.mark.parametrize("sop_class", list(ReportClass))
def test_the_same_tree_in_every_class(
    sop_class: ReportClass, chest: Dataset, pneumothorax: Any
) -> None:
    best = build_report(pneumothorax(chest))
    ds = build_report(pneumothorax(chest, sop_class=sop_class))
    assert ds.SOPClassUID == sop_class
    assert ds.ContentSequence == best.ContentSequence
    assert (ds.SOPInstanceUID == best.SOPInstanceUID) == (sop_class == best.SOPClassUID)


def test_predecessor(chest: Dataset, pneumothorax: Any) -> None:
    first = build_report(pneumothorax(chest, 0.2))
    second = build_report(pneumothorax(chest, 0.9, predecessor=first))
    reference = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert reference.SeriesInstanceUID == first.SeriesInstanceUID
    assert reference.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.SeriesInstanceUID != first.SeriesInstanceUID


def test_equal_contents_give_equal_bytes(series: list[Dataset], hemorrhage: Any) -> None:
    first = object_bytes(build_report(hemorrhage(series)))
    time.sleep(1.1)  # highdicom writes the clock into what it makes
    assert object_bytes(build_report(hemorrhage(copy.deepcopy(series)))) == first


def test_the_uid_follows_the_content_and_not_the_time(chest: Dataset, pneumothorax: Any) -> None:
    content = pneumothorax(chest)
    later = dataclasses.replace(content, created_at=content.created_at + timedelta(days=3))
    uid = build_report(content).SOPInstanceUID
    assert build_report(later).SOPInstanceUID == uid
    assert build_report(pneumothorax(chest, 0.05)).SOPInstanceUID != uid
    assert build_report(pneumothorax(chest, 0.931)).SOPInstanceUID != uid
    retrained = dataclasses.replace(content.model, weights_sha256="c" * 64)
    assert build_report(pneumothorax(chest, model=retrained)).SOPInstanceUID != uid
    renamed = copy.deepcopy(chest)
    renamed.PatientName = "PHANTOM^MERGED"
    assert build_report(pneumothorax(renamed)).SOPInstanceUID != uid


def test_tracking_uids_are_shared_by_what_shows_the_same_lesion(
    chest: Dataset, pneumothorax: Any
) -> None:
    content = pneumothorax(chest)
    (item,) = items(build_report(content), codes.TRACKING_UID)
    inputs = uids.input_digest(content.source_uids)
    assert uids.tracking_uid(content.model, inputs, "pneumothorax") == item.UID


@pytest.mark.parametrize(
    ("offset", "date", "clock"),
    [
        ("+0900", "20260302", "080000"),
        ("-0330", "20260301", "193000"),
        ("+0000", "20260301", "230000"),
    ],
)
def test_times_are_written_in_the_zone_of_the_source(
    offset: str, date: str, clock: str, ct: Dataset, pneumothorax: Any
) -> None:
    ct.TimezoneOffsetFromUTC = offset
    when = datetime(2026, 3, 1, 23, 0, 0, tzinfo=UTC)
    ds = build_report(pneumothorax(ct, created_at=when))
    assert ds.TimezoneOffsetFromUTC == offset
    for event in ("InstanceCreation", "Series", "Content"):
        assert (ds[f"{event}Date"].value, ds[f"{event}Time"].value) == (date, clock)
    for item in ds.ContributingEquipmentSequence:
        assert item.ContributionDateTime == f"{date}{clock}{offset}"


def test_without_a_zone_the_clock_is_taken_as_given(ct: Dataset, pneumothorax: Any) -> None:
    del ct.TimezoneOffsetFromUTC
    when = datetime(2026, 3, 1, 23, 0, 0, tzinfo=timezone(timedelta(hours=2)))
    ds = build_report(pneumothorax(ct, created_at=when))
    assert "TimezoneOffsetFromUTC" not in ds
    assert ds.ContentTime == "230000"
    assert ds.ContributingEquipmentSequence[0].ContributionDateTime == "20260301230000+0200"


def test_geometry_that_is_missing_or_zero_is_left_out(chest: Dataset, pneumothorax: Any) -> None:
    assert not items(build_report(pneumothorax(chest)), codes.HORIZONTAL_SPACING)
    for keyword in ("PatientOrientation", "ImagerPixelSpacing", "PixelSpacing", "Modality"):
        chest.pop(keyword, None)
    assert len(items(build_report(pneumothorax(chest)), codes.SOURCE)) == 1


def test_spacing_is_not_swapped(ct: Dataset, pneumothorax: Any) -> None:
    ct.PixelSpacing = [0.5, 0.25]  # between rows, then between columns
    ds = build_report(pneumothorax(ct))
    value = [
        items(ds, name)[0].MeasuredValueSequence[0].NumericValue
        for name in (codes.HORIZONTAL_SPACING, codes.VERTICAL_SPACING)
    ]
    assert value == [0.25, 0.5]


def test_nothing_of_the_patient_is_logged_or_warned(
    ct: Dataset, pneumothorax: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "SECRET " + "X" * 80  # too long, no caret: highdicom and pydicom complain of it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct.PatientName, ct.PatientID = secret, secret
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        object_bytes(build_report(pneumothorax(ct)))
    assert not [w for w in caught if "SECRET" in str(w.message)]
    assert "SECRET" not in caplog.text


def test_a_series_of_300_slices_takes_well_under_a_second(
    ct: Dataset, stacked: Any, hemorrhage: Any
) -> None:
    content = hemorrhage(stacked(ct, 300))
    build_report(content)
    start = time.process_time()
    data = object_bytes(build_report(content))
    assert time.process_time() - start < 1.0
    assert len(data) < 200_000
    assert len(items(dcmread(BytesIO(data)), codes.SOURCE)) == 3


@given(st.floats(0, 1), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_rounding_never_contradicts_the_presence(
    probability: float, limits: tuple[float, float]
) -> None:
    thresholds = Thresholds(min(limits), max(limits))
    value = percent(probability, thresholds)
    assert 0.0 <= value <= 100.0
    assert abs(value - 100 * probability) <= 0.0051
    if abs(probability - limits[0]) > 1e-9 and abs(probability - limits[1]) > 1e-9:
        assert thresholds.presence(value / 100) is thresholds.presence(probability)


@pytest.mark.parametrize("probability", [float("nan"), float("inf"), -0.1, 1.1])
def test_what_is_no_probability_is_refused(
    probability: float, chest: Dataset, pneumothorax: Any
) -> None:
    with pytest.raises(ObjectError, match="probability"):
        build_report(pneumothorax(chest, probability))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ()}, "at least one image"),
        ({"reading": None}, "either a reading or a reason"),
        ({"not_analysed": ("wrong_view", "lateral")}, "either a reading or a reason"),
        ({"created_at": datetime(2026, 3, 1)}, "time zone"),  # noqa: DTZ001 - what is refused
        ({"reading": Reading((), ())}, "silence is never a result"),
        ({"sources": (Dataset(),)}, "lacks StudyInstanceUID"),
    ],
)
def test_contents_that_say_nothing_are_refused(
    changes: dict[str, Any], message: str, chest: Dataset, pneumothorax: Any
) -> None:
    with pytest.raises(ObjectError, match=message):
        pneumothorax(chest, **changes)


def test_findings_on_other_images_are_refused(
    chest: Dataset, ct: Dataset, pneumothorax: Any
) -> None:
    with pytest.raises(ObjectError, match="no sources"):
        pneumothorax(chest, sources=(ct,))
    with pytest.raises(ObjectError, match="twice"):
        pneumothorax(chest, sources=(chest, chest))


@pytest.mark.parametrize("name", ["", " ", "a\\b", "Café", "x" * 65, "a\nb"])
def test_device_names_are_plain(name: str) -> None:
    with pytest.raises(ObjectError, match="device name"):
        DeviceIdentity(name, "Preread", "preread", "0.1.0", "SN")


def test_an_unknown_reason_is_refused(ct: Dataset, not_analysed: Any) -> None:
    with pytest.raises(ObjectError, match="NotAnalysed"):
        build_report(not_analysed(ct, "bad_mood", "no reason"))


def test_images_of_a_private_sop_class_are_reported_too(ct: Dataset, pneumothorax: Any) -> None:
    ct.SOPClassUID = "1.2.3.4"
    ds = build_report(pneumothorax(ct))
    assert items(ds, codes.SOURCE)[0].ReferencedSOPSequence[0].ReferencedSOPClassUID == "1.2.3.4"


def test_the_widest_scope_wins(series: list[Dataset], hemorrhage: Any) -> None:
    content: ReportContent = hemorrhage(series)
    assert content.reading is not None and len(content.reading.findings) == 6 + 6 * 28
    assert len(content.reported) == 6
    assert {f.presence for f in content.reported} == set(Presence)
