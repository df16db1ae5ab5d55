"""What is carried from the headers of the images."""

# ruff: noqa: RUF001 - names in other scripts are the point

from __future__ import annotations

import copy
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import PersonName

from inference.objects import build_report, object_bytes, sources

SCRIPTS = {
    "default": (None, "PHANTOM^HEAD"),
    "latin 1": ("ISO_IR 100", "Buc^Jérôme"),
    "latin 2": ("ISO_IR 101", "Wałęsa^Żółć"),
    "cyrillic": ("ISO_IR 144", "Люкceмбypг^Фантом"),
    "arabic": ("ISO_IR 127", "قباني^لنزار"),
    "greek": ("ISO_IR 126", "Διονυσιος"),
    "hebrew": ("ISO_IR 138", "שרון^דבורה"),
    "thai": ("ISO_IR 166", "นามสกุล^ชื่อ"),
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "japanese half width": (
        ["ISO 2022 IR 13", "ISO 2022 IR 87"],
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    "korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "chinese": ("GB18030", "Wang^XiaoDong=王^小东"),
    "unicode": ("ISO_IR 192", "Wang^XiaoDong=王^小東=ワン"),
    "mixed": (["ISO 2022 IR 6", "ISO 2022 IR 144", "ISO 2022 IR 126"], "Люкceмбypг^Διονυσιος"),
}


def read_back(ds: Dataset) -> Dataset:
    """Return a data set as it comes from a file, with raw elements."""
    file = BytesIO()
    dcmwrite(file, ds, implicit_vr=False, little_endian=True, force_encoding=True)
    file.seek(0)
    back = dcmread(file, force=True)
    return back


@pytest.mark.parametrize("script", SCRIPTS)
def test_names_survive_in_every_script(script: str, ct: Dataset, pneumothorax: Any) -> None:
    terms, name = SCRIPTS[script]
    del ct.SpecificCharacterSet
    if terms is not None:
        ct.SpecificCharacterSet = terms
    ct.PatientName = name
    ct.StudyDescription = name.split("=")[-1].split("^")[0]
    source = read_back(ct)
    sent = bytes(copy.deepcopy(source).get_item("PatientName").value)

    report = dcmread(BytesIO(object_bytes(build_report(pneumothorax(source)))))

    assert bytes(report.get_item("PatientName").value) == sent
    assert str(report.PatientName) == name
    assert report.StudyDescription == ct.StudyDescription
    listed = terms if isinstance(terms, list) else [terms or ""]
    expected = [term or "ISO 2022 IR 6" for term in listed] if len(listed) > 1 else listed
    value = report.get("SpecificCharacterSet") or ""
    assert ([value] if isinstance(value, str) else list(value)) == expected


def test_chinese_with_escapes_survives(ct: Dataset, pneumothorax: Any) -> None:
    """PS3.5 annex K; pydicom 3.0 neither reads nor writes these escapes, so bytes must pass."""
    ct.SpecificCharacterSet = ["ISO 2022 IR 6", "ISO 2022 IR 58"]
    sent = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"
    ct.PatientName = PersonName(sent, ["iso8859", "iso_ir_58"])
    report = dcmread(BytesIO(object_bytes(build_report(pneumothorax(read_back(ct))))))
    assert bytes(report.get_item("PatientName").value).rstrip() == sent
    assert list(report.SpecificCharacterSet) == ["ISO 2022 IR 6", "ISO 2022 IR 58"]


def test_text_that_its_character_set_cannot_hold_goes_out_as_unicode(ct: Dataset) -> None:
    ct.SpecificCharacterSet = "ISO_IR 100"
    ct.PatientName = "山田^太郎"
    carried = sources.identity(ct)
    assert carried.SpecificCharacterSet == "ISO_IR 192"
    assert str(read_back(carried).PatientName) == "山田^太郎"


@pytest.mark.parametrize("term", ["ISO_IR 999", "UTF-8"])
def test_an_unknown_character_set_is_not_carried(term: str, ct: Dataset) -> None:
    ct.SpecificCharacterSet = term
    assert sources.identity(ct).SpecificCharacterSet == "ISO_IR 192"


def test_undeclared_bytes_stay_as_they_came(ct: Dataset, pneumothorax: Any) -> None:
    del ct.SpecificCharacterSet
    ct.PatientName = "J\xe9r\xf4me"  # Latin-1 bytes without a character set: illegal and common
    source = read_back(ct)
    report = dcmread(BytesIO(object_bytes(build_report(pneumothorax(source)))))
    assert bytes(report.get_item("PatientName").value).rstrip() == b"J\xe9r\xf4me"


def test_type_2_attributes_are_present_where_the_source_lacks_them(ct: Dataset) -> None:
    for keyword in sources.TYPE_2:
        if keyword in ct:
            delattr(ct, keyword)
    carried = sources.identity(ct)
    assert all(keyword in carried and not carried[keyword].value for keyword in sources.TYPE_2)


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("PatientSex", "U", None),
        ("PatientSex", "F", "F"),
        ("StudyDate", "2024.03.01", "20240301"),
        ("StudyDate", "yesterday", None),
        ("StudyTime", "10:20:30", None),
        ("StudyTime", "102030.25", "102030.25"),
        ("PatientBirthDate", "1940", None),
        ("PatientAge", "62", None),
        ("PatientAge", "062Y", "062Y"),
    ],
)
def test_values_that_break_their_representation_are_left_out(
    keyword: str, value: str, expected: str | None, ct: Dataset, recwarn: Any
) -> None:
    ct.add_new(keyword, ct.get_item(keyword).VR if keyword in ct else _vr(keyword), value)
    carried = sources.identity(ct)
    assert (carried.get(keyword) or None) == expected
    assert keyword in carried or keyword not in sources.TYPE_2


def _vr(keyword: str) -> str:
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    return dictionary_VR(tag_for_keyword(keyword) or 0)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("+0900", 540), ("-0330", -210), ("+0000", 0), ("+1400", 840), ("-1200", -720)],
)
def test_zones(text: str, minutes: int) -> None:
    ds = Dataset()
    ds.TimezoneOffsetFromUTC = text
    found = sources.zone(ds)
    assert found is not None and found.utcoffset(None) == timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["", "0900", "+25:00", "+2500", "-1300", "CET", "+0960"])
def test_a_zone_that_is_none_is_not_carried(text: str, ct: Dataset) -> None:
    ct.TimezoneOffsetFromUTC = text
    assert sources.zone(ct) is None
    assert "TimezoneOffsetFromUTC" not in sources.identity(ct)


def test_an_identity_that_was_removed_has_a_method(ct: Dataset) -> None:
    ct.PatientIdentityRemoved = "YES"
    ct.DeidentificationMethod = ""
    assert sources.identity(ct).DeidentificationMethod
    ct.DeidentificationMethod = "cleaned"
    assert sources.identity(ct).DeidentificationMethod == "cleaned"


def test_requests_are_taken_once_with_issuers(ct: Dataset) -> None:
    issuer, request = Dataset(), Dataset()
    issuer.LocalNamespaceEntityID = "RIS"
    ct.AccessionNumber, ct.IssuerOfAccessionNumberSequence = "A-1", Sequence([issuer])
    request.RequestedProcedureID = "RP-7"
    request.RequestedProcedureDescription = "CT head"
    ct.RequestAttributesSequence = Sequence([request])
    second = copy.deepcopy(ct)
    second.RequestAttributesSequence[0].RequestedProcedureID = "RP-8"

    items = sources.requests([ct, ct, second])

    assert [item.RequestedProcedureID for item in items] == ["RP-7", "RP-8"]
    assert items[0].StudyInstanceUID == ct.StudyInstanceUID
    assert items[0].AccessionNumber == "A-1"
    assert items[0].IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "RIS"
    assert items[0].PlacerOrderNumberImagingServiceRequest in ("", None)


def test_requests_are_carried_whatever_their_script(ct: Dataset, pneumothorax: Any) -> None:
    request = Dataset()
    request.RequestedProcedureDescription = "頭部CT"
    ct.SpecificCharacterSet = "ISO_IR 192"
    ct.RequestAttributesSequence = Sequence([request])
    other = read_back(ct)
    ct.SpecificCharacterSet = "ISO_IR 100"
    ct.RequestAttributesSequence = Sequence([])
    ct.SOPInstanceUID = "1.2.3.4"
    content = pneumothorax(ct, sources=(ct, other))
    report = dcmread(BytesIO(object_bytes(build_report(content))))
    (item,) = report.ReferencedRequestSequence
    assert item.RequestedProcedureDescription == "頭部CT"


def test_a_number_that_is_none_does_not_cost_the_result(ct: Dataset, pneumothorax: Any) -> None:
    raw = RawDataElement(BaseTag(0x00101030), "DS", 4, b"abc ", 0, False, True)
    source = read_back(ct)
    source[raw.tag] = raw
    assert "PatientWeight" not in build_report(pneumothorax(source))


def test_sources_are_never_changed(chest: Dataset, ct: Dataset, pneumothorax: Any) -> None:
    for source in (chest, ct):
        before = copy.deepcopy(source)
        build_report(pneumothorax(source))
        assert source == before
        assert source.keys() == before.keys()


def test_big_endian_and_implicit_sources_are_carried(testdata: Any, pneumothorax: Any) -> None:
    for name in ("MR_small_bigendian.dcm", "MR_small_implicit.dcm"):
        source = dcmread(testdata(name), stop_before_pixels=True)
        report = dcmread(BytesIO(object_bytes(build_report(pneumothorax(source)))))
        assert report.PatientName == source.PatientName
        assert report.get("PatientWeight") == source.get("PatientWeight")


def test_paths_are_not_needed(tmp_path: Path) -> None:
    """A source is a header, wherever it came from: nothing here opens a file."""
    source = Dataset()
    source.StudyInstanceUID = "1.2.3"
    assert sources.identity(source).StudyInstanceUID == "1.2.3"
