"""Result objects after a patient merge or a changed accession number."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from read_sources import files_of, read
from varied_sources import make_source

from inference.errors import ObjectError
from inference.objects import object_bytes, render, validate
from inference.objects.corrected import correct, reissue
from inference.objects.fallback import as_class
from inference.objects.report import ReportClass
from inference.result_objects import make_objects

NOW = datetime(2026, 4, 1, 8, 0, 0, tzinfo=UTC)
MERGE = {"PatientID": "NEW-1", "AccessionNumber": "A-77"}
JAPANESE = "Yamada^Tarou=山田^太郎"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of all objects of a CT series in Latin-1, with a request."""
    source = make_source("ct of GE", tmp_path_factory.mktemp("ct"))
    basis = read(source)
    for ds in basis.sources:
        request = Dataset()
        request.RequestedProcedureID, request.AccessionNumber = "RP-7", "A-1"
        ds.RequestAttributesSequence, ds.AccessionNumber = [request], "A-1"
        ds.StudyDescription, ds.PatientName = "Schädel nativ", "Müller^Jürgen"
        ds.OtherPatientNames = ["Möller^J", "Maier^Ä"]
    made = files_of(make_objects(basis))
    return {name: data for name, data in made.items() if not name.startswith("sr-")}


@pytest.fixture
def olds(files: dict[str, bytes]) -> dict[str, Dataset]:
    """Return the objects as they are read from their files."""
    return {name: dcmread(BytesIO(data)) for name, data in files.items()}


def renewed(
    olds: dict[str, Dataset], attributes: dict[str, str], now: datetime = NOW
) -> dict[str, Dataset]:
    return dict(zip(olds, reissue(list(olds.values()), attributes, now), strict=True))


def uids_below(ds: Dataset) -> set[str]:
    """Return every UID that is written in a sequence of a data set."""
    found: set[str] = set()
    for element in ds.iterall():
        if element.VR == "UI" and element.value:
            found.update([element.value] if isinstance(element.value, str) else element.value)
    return found


def test_everything_that_is_made_is_valid_and_corrected(olds: dict[str, Dataset]) -> None:
    for name, new in renewed(olds, MERGE).items():
        back = dcmread(BytesIO(object_bytes(new)))
        validate(back)
        assert (back.PatientID, back.AccessionNumber) == ("NEW-1", "A-77")
        assert back.PatientName == olds[name].PatientName
        assert back.StudyInstanceUID == olds[name].StudyInstanceUID
        assert back.file_meta.MediaStorageSOPInstanceUID == back.SOPInstanceUID
        for keyword in ("RequestAttributesSequence", "ReferencedRequestSequence"):
            for request in back.get(keyword) or ():
                assert (request.RequestedProcedureID, request.AccessionNumber) == ("RP-7", "A-77")


def test_what_was_found_stays(olds: dict[str, Dataset]) -> None:
    news = renewed(olds, MERGE)
    told, before = render(news["sr"]), render(olds["sr"])
    findings = [line for line in before.splitlines() if "AI probability" in line]
    assert len(findings) >= 6
    assert [line for line in told.splitlines() if "AI probability" in line] == findings
    for name in olds:
        assert news[name].get("PixelData") == olds[name].get("PixelData")
        assert news[name].get("ImageComments") == olds[name].get("ImageComments")


def test_the_originals_are_not_changed(olds: dict[str, Dataset], files: dict[str, bytes]) -> None:
    renewed(olds, {"PatientName": JAPANESE, **MERGE})
    assert {name: object_bytes(old) for name, old in olds.items()} == files


def test_the_same_correction_makes_the_same_instances(files: dict[str, bytes]) -> None:
    """Whatever the time and the order in which attributes are told."""

    def made(attributes: dict[str, str], now: datetime = NOW) -> dict[str, Dataset]:
        return renewed({n: dcmread(BytesIO(d)) for n, d in files.items()}, attributes, now)

    def uids(objects: dict[str, Dataset]) -> list[str]:
        return [uid for ds in objects.values() for uid in (ds.SOPInstanceUID, ds.SeriesInstanceUID)]

    first = made(MERGE)
    backwards = dict(reversed(MERGE.items()))
    assert [object_bytes(ds) for ds in made(backwards).values()] == [
        object_bytes(ds) for ds in first.values()
    ]
    assert uids(made(MERGE, NOW + timedelta(days=3))) == uids(first)
    assert not set(uids(made(MERGE | {"AccessionNumber": "A-78"}))) & set(uids(first))
    assert not set(uids(made(MERGE))) & {
        str(dcmread(BytesIO(data)).SOPInstanceUID) for data in files.values()
    }


def test_a_correction_of_a_correction_is_another_instance(olds: dict[str, Dataset]) -> None:
    """Also one that takes the first back: the instance that was replaced never returns."""
    away = renewed(olds, {"PatientID": "NEW-1"})
    back = renewed(away, {"PatientID": str(olds["sr"].PatientID)})
    for one, other in itertools.combinations((olds, away, back), 2):
        assert not {str(d.SOPInstanceUID) for d in one.values()} & {
            str(d.SOPInstanceUID) for d in other.values()
        }
    (study,) = back["sr"].PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == away["sr"].SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == away["sr"].SOPInstanceUID


def test_references_lead_to_the_new_objects(olds: dict[str, Dataset]) -> None:
    news = renewed(olds, MERGE)
    for name, new in news.items():
        old, below = uids_below(olds[name]), uids_below(new)
        for other in olds:
            for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
                was, became = str(olds[other][keyword].value), str(news[other][keyword].value)
                is_predecessor = name == other == "sr"
                assert was not in below or is_predecessor, (name, other)
                assert (became in below) == (was in old), (name, other)


def test_only_the_report_has_a_predecessor(olds: dict[str, Dataset]) -> None:
    news = renewed(olds, MERGE)
    assert [name for name, ds in news.items() if "PredecessorDocumentsSequence" in ds] == ["sr"]
    (study,) = news["sr"].PredecessorDocumentsSequence
    reference = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert study.StudyInstanceUID == olds["sr"].StudyInstanceUID
    assert reference.ReferencedSOPClassUID == ReportClass.COMPREHENSIVE_3D
    assert reference.ReferencedSOPInstanceUID == olds["sr"].SOPInstanceUID


def test_captures_stay_one_series_and_the_order_is_the_one_given(
    olds: dict[str, Dataset],
) -> None:
    backwards = dict(reversed(olds.items()))
    news = renewed(backwards, MERGE)
    assert [ds.Modality for ds in news.values()] == [ds.Modality for ds in backwards.values()]
    series = {str(ds.SeriesInstanceUID) for name, ds in news.items() if name.startswith("sc")}
    assert len(series) == 1
    assert not series & {str(ds.SeriesInstanceUID) for ds in olds.values()}
    forwards = renewed(olds, MERGE)
    assert {n: d.SOPInstanceUID for n, d in forwards.items()} == {
        n: d.SOPInstanceUID for n, d in news.items()
    }


def test_a_name_beyond_the_character_set_makes_all_text_unicode(
    olds: dict[str, Dataset],
) -> None:
    for new in renewed(olds, {"PatientName": JAPANESE}).values():
        back = dcmread(BytesIO(object_bytes(new)))
        assert back.SpecificCharacterSet == "ISO_IR 192"
        assert str(back.PatientName) == JAPANESE
        assert back.StudyDescription == "Schädel nativ"
        assert list(map(str, back.OtherPatientNames)) == ["Möller^J", "Maier^Ä"]


def test_a_name_that_fits_keeps_the_character_set(olds: dict[str, Dataset]) -> None:
    for new in renewed(olds, {"PatientName": "Möller^Jörg"}).values():
        back = dcmread(BytesIO(object_bytes(new)))
        assert back.SpecificCharacterSet == "ISO_IR 100"
        assert dcmread(BytesIO(object_bytes(new))).get_item("PatientName").value.strip() == (
            "Möller^Jörg".encode("latin-1")
        )


def test_a_new_report_can_still_go_out_in_another_class(olds: dict[str, Dataset]) -> None:
    report = dcmread(BytesIO(object_bytes(renewed(olds, MERGE)["sr"])))
    plain = as_class(report, ReportClass.ENHANCED)
    validate(plain)
    assert plain.PatientID == "NEW-1"
    assert plain.PredecessorDocumentsSequence == report.PredecessorDocumentsSequence


def test_times_are_those_of_the_correction(olds: dict[str, Dataset]) -> None:
    for name, new in renewed(olds, MERGE).items():
        assert (new.ContentDate, new.ContentTime) != (
            olds[name].ContentDate,
            olds[name].ContentTime,
        )
        offset = str(new.TimezoneOffsetFromUTC)
        assert new.ContributingEquipmentSequence[0].ContributionDateTime.endswith(offset)


def test_what_is_no_object_of_ours_is_refused(chest: Dataset) -> None:
    with pytest.raises(ObjectError, match="no result object"):
        reissue([chest], MERGE, NOW)


def test_an_empty_value_empties() -> None:
    ds = Dataset()
    ds.PatientID, ds.AccessionNumber = "1", "A-1"
    correct(ds, {"PatientID": "", "AccessionNumber": ""})
    assert "PatientID" in ds and not ds.PatientID
    assert "AccessionNumber" in ds and not ds.AccessionNumber


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_accession_number_of_one_request_follows(count: int) -> None:
    """Of several requests nobody can tell which one it was that changed."""
    ds, requests = Dataset(), [Dataset() for _ in range(count)]
    for number, request in enumerate(requests):
        request.AccessionNumber = f"OLD-{number}"
    ds.RequestAttributesSequence = requests
    correct(ds, {"AccessionNumber": "NEW"})
    assert ds.AccessionNumber == "NEW"
    told = [request.AccessionNumber for request in ds.RequestAttributesSequence]
    assert told == (["NEW"] if count == 1 else [f"OLD-{n}" for n in range(count)])


def test_images_are_corrected_as_headers_are(tmp_path: Path) -> None:
    """Objects made of corrected headers say what reissued ones say of patient and request."""
    basis = read(make_source("secondary capture", tmp_path))
    request, issuer = Dataset(), Dataset()
    request.RequestedProcedureID, issuer.LocalNamespaceEntityID = "RP-7", "RIS"
    for ds in basis.sources:
        ds.RequestAttributesSequence, ds.IssuerOfAccessionNumberSequence = [request], [issuer]
        ds.AccessionNumber = "A-1"
    before = files_of(make_objects(basis))
    for ds in basis.sources:
        correct(ds, MERGE)
    # What headers say is worked out once for each basis.
    corrected = files_of(make_objects(replace(basis, sources=tuple(basis.sources))))
    reissued = renewed({"sr": dcmread(BytesIO(before["sr"]))}, MERGE)["sr"]
    fresh = dcmread(BytesIO(corrected["sr"]))
    for keyword in ("PatientID", "AccessionNumber", "ReferencedRequestSequence", "PatientName"):
        assert fresh[keyword].value == reissued[keyword].value
