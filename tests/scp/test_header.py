"""Identifying attributes, read from encoded bytes."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from scp.errors import IdentityError, Part10Error
from scp.header import is_uid, read_header
from scp.part10 import file_head, read_layout

EXPLICIT = "1.2.840.10008.1.2.1"


def read(image: Dataset) -> Any:
    return read_header(encode(image), EXPLICIT)


def encode(image: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, image)
    return bytes(buffer.getvalue())


@pytest.mark.parametrize("path", [*get_charset_files("chr[A-RT-Z]*.dcm")])
def test_names_in_every_character_set(path: str) -> None:
    image = dcmread(path)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        setattr(image, keyword, "1.2.3")
    assert read(image).patient_name == str(image.PatientName).rstrip(" =")


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (b"PHANTOM^HEAD", "PHANTOM^HEAD"),
        (b"PHANTOM=A= =", "PHANTOM=A"),
        (b"PHANTOM\x1d== ", "PHANTOM"),
        (b"PHANTOM= \x1d=\t", "PHANTOM"),
        (b"= = = ", None),
        (b"P" * 1023 + b"\x1d=A", "P" * 1023),  # what is behind the limit is cut off first
    ],
)
def test_what_is_empty_at_the_end_of_a_name_is_left_out(
    image: Any, encoded: bytes, expected: str | None
) -> None:
    name = element(0x00100010, b"PN", b"PHANTOM^HEAD")
    data = encode(image()).replace(name, element(0x00100010, b"PN", encoded))
    assert read_header(data, EXPLICIT).patient_name == expected


@pytest.mark.filterwarnings("ignore:Unknown encoding")
@pytest.mark.filterwarnings("ignore:Failed to decode")
def test_unknown_character_set_and_undecodable_bytes_are_no_reason_to_refuse(image: Any) -> None:
    one = image()
    one.SpecificCharacterSet = "ISO_IR 192"
    data = encode(one)
    found = read_header(data.replace(b"ISO_IR 192", b"ISO_IR 999"), EXPLICIT)
    assert found.patient_name == "PHANTOM^HEAD"
    found = read_header(data.replace(b"PHANTOM^HEAD", b"PHANTOM^\xff\xfe\xfd\xfc"), EXPLICIT)
    assert found.patient_name is not None
    assert found.patient_name.startswith("PHANTOM^")


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


UIDS = b"".join(
    element(tag, b"UI", b"1.2.3\0") for tag in (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)
)
TERMS = [b"", b"ISO 2022 IR 87", b"ISO_IR 192", b"GB18030", b"utf-8", b"hex", b"zlib", b"idna",
         b"punycode", b"undefined", b"unicode_escape", b"rot13", b"\0"]  # fmt: skip
NAMED = st.lists(st.sampled_from(TERMS), max_size=4).map(b"\\".join)


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.one_of(st.binary(max_size=64), NAMED), st.binary(max_size=64))
@example(b"ISO_IR\x00100", b"PHANTOM^HEAD")
def test_no_character_set_is_a_reason_to_refuse(character_set: bytes, name: bytes) -> None:
    data = element(0x00080005, b"CS", character_set) + element(0x00100010, b"PN", name) + UIDS
    found = read_header(data, EXPLICIT)
    assert found.sop_instance_uid == "1.2.3"
    assert found.patient_name is None or "\0" not in found.patient_name


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (b"ISO_IR\x00100", "PHANTOM^\xc4"), (b"punycode", "PHANTOM^\xc4"), (b"hex", "PHANTOM^\xc4"),
        (b"latin1", "PHANTOM^\xc4"), (b"ISO-IR 101", "PHANTOM^\xc4"), (b"cp037", "PHANTOM^\xc4"),
    ],
)  # fmt: skip
def test_the_fallback_is_latin_1(term: bytes, expected: str) -> None:
    data = element(0x00080005, b"CS", term) + element(0x00100010, b"PN", b"PHANTOM^\xc4") + UIDS
    assert read_header(data, EXPLICIT).patient_name == expected


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.filterwarnings("ignore:The value length")
def test_senseless_values_become_none_and_long_ones_are_cut(image: Any) -> None:
    one = image(StudyDate="yesterday", Modality="X" * 40, PatientID="9" * 400)
    one.add_new(0x00100030, "LO", "1999.12.31")
    one.add_new(0x00200011, "LO", "three")
    one.add_new(0x00200013, "LO", "1.5")
    found = read(one)
    assert found.study_date is None
    assert found.patient_birth_date == "19991231"
    assert (found.series_number, found.instance_number) == (None, None)
    assert found.modality == "X" * 16
    assert found.patient_id == "9" * 256


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.filterwarnings("ignore:The value length")
@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
)
@pytest.mark.parametrize("value", ["", "../1.2", "1.2.x", "1..2", "9" * 65])
def test_uids_must_be_uids(image: Any, keyword: str, value: str) -> None:
    one = image()
    setattr(one, keyword, value)
    with pytest.raises(IdentityError, match="UID"):
        read(one)


def test_is_uid() -> None:
    assert is_uid("1.2.840.10008.1.1")
    assert is_uid("1.02")  # old equipment
    for text in ("", "1.", ".1", "1..2", "1.2 ", "\uff11.2", "1" * 65, "1.2\n"):
        assert not is_uid(text)


def test_the_file_head_is_what_pydicom_reads() -> None:
    head = file_head("1.2.3", "1.2.3.4", EXPLICIT, "SENDER")
    meta = dcmread(BytesIO(head)).file_meta
    assert meta.FileMetaInformationGroupLength == len(head) - 144
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == ("1.2.3", "1.2.3.4")
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID.startswith("2.25.")
    assert meta.ImplementationVersionName.startswith("PREREAD")
    assert meta.SourceApplicationEntityTitle == "SENDER"
    assert read_layout(head).data_set_offset == len(head)


@pytest.mark.parametrize("content", [b"", b"text", bytes(200), bytes(128) + b"DICM" + bytes(9)])
def test_no_dicom_file(content: bytes) -> None:
    with pytest.raises(Part10Error):
        read_layout(content)


def test_truncated_file_meta() -> None:
    head = file_head("1.2.3", "1.2.3.4", EXPLICIT, "SENDER")
    with pytest.raises(Part10Error, match=r"truncated|Transfer Syntax"):
        read_layout(head[:170])
