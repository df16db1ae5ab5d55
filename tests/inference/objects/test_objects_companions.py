"""Captures, key objects and segmentations, and what report and companions say of each other."""

from __future__ import annotations

import copy
import dataclasses
import logging
import warnings
from datetime import timedelta
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from inference import codes
from inference.errors import ObjectError
from inference.objects import build_report, object_bytes, validate
from inference.objects.key_objects import build_key_objects
from inference.objects.secondary_capture import build_capture
from inference.objects.segmentation import build_segmentation
from inference.objects.template import concept_name
from inference.reading import Illustration, Mask, Reading


def items(ds: Dataset, code: Any) -> list[Dataset]:
    found = [ds] if concept_name(ds) == code else []
    for child in ds.get("ContentSequence") or ():
        found += items(child, code)
    return found


def listed(ds: Dataset) -> list[str]:
    return [
        str(reference.ReferencedSOPInstanceUID)
        for study in ds.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    ]


def frames(ds: Dataset) -> Any:
    shape = (int(ds.NumberOfFrames), int(ds.Rows), int(ds.Columns))
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    return bits[: shape[0] * shape[1] * shape[2]].reshape(shape).astype(bool)


def test_a_capture_shows_the_pixels_it_was_given(
    chest: Dataset, pneumothorax: Any, capture: Any
) -> None:
    odd = np.random.default_rng(2).integers(0, 255, (33, 31, 3), dtype=np.uint8)
    content = capture(pneumothorax(chest), pixels=odd)
    ds = dcmread(BytesIO(object_bytes(build_capture(content))))
    assert np.array_equal(ds.pixel_array, odd)
    assert len(ds.PixelData) % 2 == 0
    assert ds.BurnedInAnnotation == "YES" and ds.Modality == "OT"
    assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == chest.SOPInstanceUID
    assert ds.PatientOrientation == chest.PatientOrientation


def test_captures_of_one_analysis_are_one_series(
    series: list[Dataset], hemorrhage: Any, capture: Any
) -> None:
    content = hemorrhage(series)
    first, second = (build_capture(capture(content, number)) for number in (1, 2))
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    other = hemorrhage(series, probabilities=(0.9, 0.03, 0.94, 0.31, 0.02, 0.11))
    assert build_capture(capture(other)).SeriesInstanceUID != first.SeriesInstanceUID


def test_a_capture_of_a_slice_has_the_directions_of_the_slice(
    series: list[Dataset], hemorrhage: Any, capture: Any
) -> None:
    for one in series:
        one.pop("PatientOrientation", None)
        one.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    assert build_capture(capture(hemorrhage(series))).PatientOrientation == ["L", "F"]


def test_a_loss_is_never_forgotten(chest: Dataset, pneumothorax: Any, capture: Any) -> None:
    chest.LossyImageCompression, chest.LossyImageCompressionRatio = "01", "12.5"
    ds = build_capture(capture(pneumothorax(chest)))
    assert (ds.LossyImageCompression, ds.LossyImageCompressionRatio) == ("01", 12.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixels": np.zeros((8, 8), np.uint8)}, "uint8 pixels"),
        ({"pixels": np.zeros((8, 8, 3), np.float32)}, "uint8 pixels"),
        ({"pixels": np.zeros((1025, 8, 3), np.uint8)}, "at most 1024"),
        ({"pixels": np.zeros((0, 8, 3), np.uint8)}, "uint8 pixels"),
        ({"number": 0}, "counts from 1"),
        ({"illustration": Illustration("1.2.3", 0, np.zeros((1, 1), np.uint8))}, "no source"),
    ],
)
def test_what_is_no_capture_is_refused(
    changes: dict[str, Any], message: str, chest: Dataset, pneumothorax: Any, capture: Any
) -> None:
    with pytest.raises(ObjectError, match=message):
        capture(pneumothorax(chest), **changes)


def test_key_objects_are_the_slices_of_what_may_be_present(
    series: list[Dataset], hemorrhage: Any, key_objects: Any
) -> None:
    ds = build_key_objects(key_objects(hemorrhage(series)))
    uids = [str(s.SOPInstanceUID) for s in series[14:17]]
    images = [i for i in ds.ContentSequence if i.ValueType == "IMAGE"]
    assert [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in images] == uids
    assert not [i for i in images if "ConceptNameCodeSequence" in i]
    assert listed(ds) == uids
    text = ds.ContentSequence[0].TextValue
    assert text.startswith("AI unverified") and text.isascii()
    assert "Cerebral hemorrhage: Present" in text and "Absent" not in text


def test_without_a_key_image_there_is_nothing_to_select(
    series: list[Dataset], chest: Dataset, hemorrhage: Any, not_analysed: Any, key_objects: Any
) -> None:
    for content in (
        hemorrhage(series, probabilities=[0.01] * 6),
        not_analysed(chest, "wrong_view", "lateral"),
    ):
        with pytest.raises(ObjectError, match="nothing to select"):
            key_objects(content)


def test_a_segmentation_holds_the_masks(
    series: list[Dataset], hemorrhage: Any, masked: Any, segmented: Any
) -> None:
    content = masked(hemorrhage(series), (20, 14, 15))
    ds = dcmread(BytesIO(object_bytes(build_segmentation(segmented(content)))))
    assert [s.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for s in ds.SegmentSequence] == [
        "Intracranial hemorrhage", "Cerebral hemorrhage", "Intracranial hemorrhage",
    ]  # fmt: skip
    assert len({s.SegmentLabel for s in ds.SegmentSequence}) == 3
    order = [(1, 14), (1, 15), (1, 20), (2, 14), (2, 15), (2, 20), (3, 14), (3, 15), (3, 20)]
    names = ["any", "intraparenchymal", "intraventricular"]
    wanted = {(m.label, m.sop_instance_uid): m.pixels for m in content.reading.masks}
    found = frames(ds)
    assert len(found) == len(order)
    for group, plane, (segment, at) in zip(
        ds.PerFrameFunctionalGroupsSequence, found, order, strict=True
    ):
        uid = str(series[at].SOPInstanceUID)
        assert group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == segment
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == uid
        position = group.PlanePositionSequence[0].ImagePositionPatient
        assert list(position) == list(series[at].ImagePositionPatient)
        assert list(group.FrameContentSequence[0].DimensionIndexValues) == [
            segment,
            {14: 1, 15: 2, 20: 3}[at],
        ]
        assert np.array_equal(plane, wanted[names[segment - 1], uid])
    shared = ds.SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == series[0].PixelSpacing


def test_a_radiograph_has_no_place_in_space(
    chest: Dataset, pneumothorax: Any, masked: Any, segmented: Any
) -> None:
    ds = build_segmentation(segmented(masked(pneumothorax(chest))))
    assert "FrameOfReferenceUID" not in ds
    assert "PlanePositionSequence" not in ds.PerFrameFunctionalGroupsSequence[0]
    assert ds.PatientOrientation == chest.PatientOrientation


def test_overlapping_segments_are_told(
    series: list[Dataset], hemorrhage: Any, masked: Any, segmented: Any
) -> None:
    content = masked(hemorrhage(series), (14,))
    assert build_segmentation(segmented(content)).SegmentsOverlap == "YES"
    apart = []
    for number, mask in enumerate(content.reading.masks):
        pixels = np.zeros_like(mask.pixels)
        pixels[number] = True
        apart.append(dataclasses.replace(mask, pixels=pixels))
    reading = dataclasses.replace(content.reading, masks=tuple(apart))
    ds = build_segmentation(segmented(dataclasses.replace(content, reading=reading)))
    assert ds.SegmentsOverlap == "NO"


def refused_masks(uid: str, shape: tuple[int, int]) -> dict[str, tuple[tuple[Mask, ...], str]]:
    full, empty = np.ones(shape, np.bool_), np.zeros(shape, np.bool_)
    good = Mask("pneumothorax", uid, 0, full)
    return {
        "none": ((), "nothing to segment"),
        "empty": ((dataclasses.replace(good, pixels=empty),), "nothing to segment"),
        "label": ((dataclasses.replace(good, label="nodule"),), "no reported label"),
        "image": ((dataclasses.replace(good, sop_instance_uid="1.2"),), "no source"),
        "kind": ((dataclasses.replace(good, pixels=full.astype(float)),), "no matrix of bool"),
        "twice": ((good, good), "given twice"),
        "shape": ((good, dataclasses.replace(good, frame=1, pixels=full[1:])), "2 matrices"),
    }


@pytest.mark.parametrize("kind", ["none", "empty", "label", "image", "kind", "twice", "shape"])
def test_what_cannot_be_segmented_is_refused(
    kind: str, chest: Dataset, pneumothorax: Any, segmented: Any
) -> None:
    content = pneumothorax(chest)
    masks, message = refused_masks(str(chest.SOPInstanceUID), (4, 4))[kind]
    reading = dataclasses.replace(content.reading, masks=masks)
    with pytest.raises(ObjectError, match=message):
        segmented(content, reading=reading)


def test_masks_of_an_absent_finding_are_left_out(
    chest: Dataset, pneumothorax: Any, masked: Any, segmented: Any
) -> None:
    with pytest.raises(ObjectError, match="nothing to segment"):
        segmented(masked(pneumothorax(chest, 0.02)))


def test_report_segmentation_and_capture_share_tracking_uids(
    series: list[Dataset], hemorrhage: Any, masked: Any, all_kinds: Any
) -> None:
    made = all_kinds(masked(hemorrhage(series), (14, 15)), captures=2)
    groups = items(made["sr"], codes.MEASUREMENT_GROUP)
    tracked = {str(items(g, codes.TRACKING_UID)[0].UID): g for g in groups}
    for segment in made["seg"].SegmentSequence:
        references = [
            i.ReferencedSOPSequence[0]
            for i in items(tracked[str(segment.TrackingUID)], codes.ILLUSTRATION)
        ]
        assert (made["seg"].SOPInstanceUID, segment.SegmentNumber) in [
            (r.ReferencedSOPInstanceUID, r.get("ReferencedSegmentNumber")) for r in references
        ]
    words = made["sc1"].ImageComments.split()
    assert {uid for uid in tracked if uid in words} == {
        str(items(g, codes.TRACKING_UID)[0].UID)
        for g in groups
        if made["sc1"].SOPInstanceUID
        in [
            i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for i in items(g, codes.ILLUSTRATION)
        ]
    }
    evidence = listed(made["sr"])
    assert evidence[:28] == [str(s.SOPInstanceUID) for s in series]
    assert evidence[28:] == [str(made[n].SOPInstanceUID) for n in ("sc1", "sc2", "seg")]


def test_companions_of_another_kind_or_study_are_refused(
    chest: Dataset, ct: Dataset, pneumothorax: Any, capture: Any
) -> None:
    own = build_capture(capture(pneumothorax(chest)))
    other = build_capture(capture(pneumothorax(ct)))
    for companions in ((other,), (own, own), (chest,), (Dataset(),)):
        with pytest.raises(ObjectError):
            pneumothorax(chest, companions=companions)


def test_nothing_but_the_time_follows_the_time(
    series: list[Dataset], hemorrhage: Any, masked: Any, all_kinds: Any
) -> None:
    content = masked(hemorrhage(series), (14,))
    later = dataclasses.replace(content, created_at=content.created_at + timedelta(days=1))
    first, again, second = (all_kinds(c) for c in (content, copy.deepcopy(content), later))
    for name, ds in first.items():
        assert object_bytes(again[name]) == object_bytes(ds), name
        assert second[name].SOPInstanceUID == ds.SOPInstanceUID, name
        assert second[name].SeriesInstanceUID == ds.SeriesInstanceUID, name
        assert second[name].ContentDate != ds.ContentDate, name
    assert len({ds.SOPInstanceUID for ds in first.values()}) == len(first)


def test_companions_carry_the_zone_the_requests_and_the_script(
    series: list[Dataset], hemorrhage: Any, masked: Any, all_kinds: Any
) -> None:
    name = "Yamada^Tarou=山田^太郎"
    request = Dataset()
    request.RequestedProcedureID, request.RequestedProcedureDescription = "RP-7", "頭部"
    for one in series:
        one.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        one.PatientName, one.TimezoneOffsetFromUTC = name, "+0900"
        one.RequestAttributesSequence = [request]
    for kind, ds in all_kinds(masked(hemorrhage(series), (14,))).items():
        back = dcmread(BytesIO(object_bytes(ds)))
        assert str(back.PatientName) == name, kind
        assert (back.TimezoneOffsetFromUTC, back.ContentTime) == ("+0900", "192030"), kind
        is_image = back.Modality in ("OT", "SEG")
        told = "RequestAttributesSequence" if is_image else "ReferencedRequestSequence"
        assert back[told][0].RequestedProcedureDescription == "頭部", kind
        assert back.DeviceUID == back.ContributingEquipmentSequence[0].DeviceUID, kind


def test_sources_and_pixels_are_never_changed(
    series: list[Dataset], hemorrhage: Any, masked: Any, all_kinds: Any
) -> None:
    content = masked(hemorrhage(series), (14,))
    before = copy.deepcopy(content.sources)
    all_kinds(content)
    assert content.sources == before


def test_nothing_of_the_patient_is_logged_or_warned(
    series: list[Dataset],
    hemorrhage: Any,
    masked: Any,
    all_kinds: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in series:
            one.PatientName = one.PatientID = "SECRET " + "X" * 80
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for ds in all_kinds(masked(hemorrhage(series), (14,))).values():
            object_bytes(ds)
    assert not [w for w in caught if "SECRET" in str(w.message)]
    assert "SECRET" not in caplog.text


def test_each_image_of_several_has_its_own_observation(
    ct: Dataset, stacked: Any, pneumothorax: Any, masked: Any, segmented: Any
) -> None:
    """Two radiographs, one label: a segment and a tracking UID for each finding."""
    first, second = stacked(ct, 2)
    content = pneumothorax(first, sources=(first, second))
    finding = content.reading.findings[0]
    other = dataclasses.replace(finding, sop_instance_uid=str(second.SOPInstanceUID))
    reading = Reading((finding, other), content.source_uids)
    pixels = np.ones((int(ct.Rows), int(ct.Columns)), np.bool_)
    masks = tuple(Mask("pneumothorax", uid, 0, pixels) for uid in content.source_uids)
    reading = dataclasses.replace(reading, masks=masks)
    content = dataclasses.replace(content, reading=reading)
    ds = build_segmentation(segmented(content))
    report = build_report(dataclasses.replace(content, companions=(ds,)))
    told = [str(i.UID) for i in items(report, codes.TRACKING_UID)]
    assert [str(s.TrackingUID) for s in ds.SegmentSequence] == told
    assert len(set(told)) == 2
    references = [i.ReferencedSOPSequence[0] for i in items(report, codes.ILLUSTRATION)]
    assert [r.ReferencedSegmentNumber for r in references] == [1, 2]


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("RequestAttributesSequence", "LO", "RP"),
        ("RequestAttributesSequence", "US", 7),
        ("RequestAttributesSequence", "OB", b"\0\0"),
        ("PatientOrientation", "US", 7),
        ("PatientOrientation", "DS", "1"),
    ],
)
def test_an_attribute_of_another_representation_loses_nothing(
    chest: Dataset, pneumothorax: Any, capture: Any, keyword: str, vr: str, value: Any
) -> None:
    odd = copy.deepcopy(chest)
    odd[keyword] = DataElement(keyword, vr, value)
    content = pneumothorax(odd)
    assert items(build_report(content), codes.PNEUMOTHORAX)
    validate(build_capture(capture(content)))


@pytest.mark.parametrize(
    "keyword", ["FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
)
def test_a_uid_with_a_leading_zero_is_no_reason_to_send_nothing(
    chest: Dataset, pneumothorax: Any, capture: Any, keyword: str
) -> None:
    odd = copy.deepcopy(chest)
    odd[keyword] = DataElement(keyword, "UI", "1.2.0840.03", validation_mode=0)
    content = pneumothorax(odd)
    validate(build_report(content), read=content.source_uids)
    validate(build_capture(capture(content)))
