"""The walk over encoded data sets, against what pydicom writes and reads."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from scp.deflate import inflate
from scp.errors import StructureError
from scp.part10 import read_layout
from scp.structure import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, BeyondError, walk

DEFLATED = "1.2.840.10008.1.2.1.99"
SYNTAXES = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)
PLAIN = ("PatientID", "StudyDescription", "SeriesDescription", "AccessionNumber", "ImageComments")
NESTED = ("RequestAttributesSequence", "ReferencedSeriesSequence", "OtherPatientIDsSequence")


def encode(data_set: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian = syntax != EXPLICIT_BIG
    buffer.is_implicit_VR = syntax == IMPLICIT_LITTLE
    write_dataset(buffer, data_set)
    return bytes(buffer.getvalue())


@st.composite
def data_sets(draw: Any, depth: int = 2) -> Dataset:
    made = Dataset()
    for keyword in draw(st.lists(st.sampled_from(PLAIN), unique=True, max_size=4)):
        text = st.text(
            st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\"), max_size=10
        )
        setattr(made, keyword, draw(text))
    made.Rows = draw(st.integers(0, 65535))
    if draw(st.booleans()):
        made.add_new(0x00091001, "UN", draw(st.binary(max_size=20)))
    if depth:
        for keyword in draw(st.lists(st.sampled_from(NESTED), unique=True, max_size=2)):
            items = draw(st.lists(data_sets(depth=depth - 1), max_size=3))
            for item in items:
                item.is_undefined_length_sequence_item = draw(st.booleans())
            setattr(made, keyword, Sequence(items))
            made[keyword].is_undefined_length = draw(st.booleans())
    return made


def boundaries(data_set: Dataset, syntax: str) -> set[int]:
    """Where a prefix of the encoding is itself a whole data set."""
    ends, partial = set(), Dataset()
    for element in data_set:
        partial.add(element)
        ends.add(len(encode(partial, syntax)))
    return ends


@given(data_sets(), st.sampled_from(SYNTAXES))
@settings(max_examples=150, deadline=None)
def test_a_whole_data_set_is_accepted_and_no_truncation_is(data_set: Dataset, syntax: str) -> None:
    data = encode(data_set, syntax)
    found = walk(data, syntax, {0x00280010, 0x00100020})
    assert found.n_elements == len(data_set)
    order = "<H" if found.little_endian else ">H"
    assert struct.unpack(order, found.values[0x00280010]) == (data_set.Rows,)
    if "PatientID" in data_set:
        assert found.values[0x00100020].decode().strip() == data_set.PatientID.strip()
    whole = boundaries(data_set, syntax)
    for end in range(len(data)):
        if end in whole:
            walk(data[:end], syntax)
        else:
            with pytest.raises(StructureError):
                walk(data[:end], syntax)


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_encapsulated_pixels_are_followed_to_their_end(frames: list[bytes]) -> None:
    made = Dataset()
    made.Rows = 1
    made.PixelData = encapsulate(frames)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    data = encode(made, EXPLICIT_LITTLE)
    rows = len(data) - len(made.PixelData) - 12 - 8  # header and sequence delimiter
    assert walk(data, EXPLICIT_LITTLE).n_elements == 2
    for end in range(1, len(data)):
        if end != rows:
            with pytest.raises(StructureError):
                walk(data[:end], EXPLICIT_LITTLE)


@given(st.binary(max_size=200), st.sampled_from((*SYNTAXES, DEFLATED)))
def test_garbage_is_an_error_and_nothing_else(data: bytes, syntax: str) -> None:
    try:
        walk(data, syntax)
    except StructureError:
        return


@given(data_sets(), st.data())
@settings(deadline=None)
def test_damage_is_an_error_or_nothing(data_set: Dataset, draw: st.DataObject) -> None:
    data = bytearray(encode(data_set, EXPLICIT_LITTLE))
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at] = draw.draw(st.integers(0, 255))
    try:
        walk(bytes(data), EXPLICIT_LITTLE)
    except StructureError:
        return


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 8, b"garbage!", b"\xfe\xff\x0d\xe0\0\0\0\0"])
def test_bytes_after_the_end(tail: bytes) -> None:
    data = encode(_patient(), EXPLICIT_LITTLE)
    with pytest.raises(StructureError):
        walk(data + tail, EXPLICIT_LITTLE)


def test_empty() -> None:
    with pytest.raises(StructureError, match="empty"):
        walk(b"", EXPLICIT_LITTLE)


def test_the_message_names_the_tag() -> None:
    with pytest.raises(StructureError, match=r"truncated in \(0010,0020\): 3 of 4 bytes") as caught:
        walk(encode(_patient(), EXPLICIT_LITTLE)[:-1], EXPLICIT_LITTLE)
    assert caught.value.tag == 0x00100020


def test_a_media_directory_is_named() -> None:
    with pytest.raises(StructureError, match="DICOMDIR"):
        walk(b"\4\0\x30\x11CS\4\0ABCD", EXPLICIT_LITTLE)


def test_deep_nesting_does_not_exhaust_the_stack() -> None:
    nested = (struct.pack("<HH2sHL", 0x40, 0x275, b"SQ", 0, 0xFFFFFFFF)
              + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 5000  # fmt: skip
    with pytest.raises(StructureError, match="nested too deeply"):
        walk(nested, EXPLICIT_LITTLE)


def test_unknown_vr_with_undefined_length_is_implicit_inside() -> None:
    item = encode(_patient(), IMPLICIT_LITTLE)
    data = (
        struct.pack("<HH2sHL", 9, 0x1001, b"UN", 0, 0xFFFFFFFF)
        + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + item
        + struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    )  # fmt: skip
    assert walk(data, EXPLICIT_LITTLE).n_elements == 1


def test_items_with_implicit_vr_in_an_explicit_data_set() -> None:
    item = encode(_patient(), IMPLICIT_LITTLE)
    data = (
        struct.pack("<HH2sHL", 0x40, 0x275, b"SQ", 0, 0xFFFFFFFF)
        + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + item
        + struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    )  # fmt: skip
    assert walk(data, EXPLICIT_LITTLE).n_elements == 1


def test_deflated() -> None:
    data = encode(_patient(), EXPLICIT_LITTLE)
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = stream.compress(data) + stream.flush()
    trailer = struct.pack("<LL", zlib.crc32(data), len(data))
    for tail in (b"", b"\0", trailer):
        assert walk(packed + tail, DEFLATED).n_elements == 1
    for broken in (packed[:-1], packed + b"more", b"\xff" + packed):
        with pytest.raises(StructureError):
            inflate(broken)


def test_a_deflate_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scp.deflate.MAX_INFLATED_BYTES", 1000)
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    with pytest.raises(StructureError, match="inflates to more"):
        inflate(stream.compress(bytes(2000)) + stream.flush())


@pytest.mark.parametrize("name", ["CT_small.dcm", "rtplan.dcm", "test-SR.dcm", "MR_small_RLE.dcm"])
def test_real_files_count_as_pydicom_counts(name: str) -> None:
    content = Path(str(get_testdata_file(name))).read_bytes()
    layout = read_layout(content)
    found = walk(content[layout.data_set_offset :], layout.transfer_syntax_uid)
    assert found.n_elements == len(dcmread(BytesIO(content)))


def _patient() -> Dataset:
    made = Dataset()
    made.PatientID = "1234"
    return made


@given(data_sets(), st.sampled_from((*SYNTAXES, DEFLATED)), st.data())
@settings(max_examples=200, deadline=None)
def test_a_beginning_tells_the_same_or_nothing(
    data_set: Dataset, syntax: str, choice: st.DataObject
) -> None:
    data = encode(data_set, EXPLICIT_LITTLE if syntax == DEFLATED else syntax)
    if choice.draw(st.booleans(), label="damaged"):
        place = choice.draw(st.integers(0, len(data) - 1), label="place")
        data = data[:place] + choice.draw(st.binary(min_size=1, max_size=4)) + data[place + 2 :]
    beginning = data[: choice.draw(st.integers(0, len(data) - 1), label="length")]
    wanted = {0x00280010, 0x00100020, 0x00081140}
    try:
        whole = walk(data, syntax, wanted)
    except StructureError:
        with pytest.raises((StructureError, BeyondError)):
            walk(beginning, syntax, wanted, len(data))
        return
    with suppress(BeyondError):
        assert walk(beginning, syntax, wanted, len(data)) == whole


def test_the_beginning_suffices_where_only_pixels_follow() -> None:
    made = Dataset()
    made.PatientID = "P-1"
    made.PixelData = bytes(5000)
    made["PixelData"].VR = "OW"
    data = encode(made, EXPLICIT_LITTLE)
    assert walk(data[:100], EXPLICIT_LITTLE, {0x00100020}, len(data)).values[0x00100020] == b"P-1 "
    with pytest.raises(StructureError):
        walk(data[:100], EXPLICIT_LITTLE, (), len(data) - 1)
    with pytest.raises(BeyondError):
        walk(data[:20], EXPLICIT_LITTLE, (), len(data))
