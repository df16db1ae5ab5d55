"""Facts from damaged headers: one bad element hides no other, and only our errors get out."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from scp import examine, rules_in_force
from scp.errors import ScpError
from scp.facts import FactsReader, read_facts
from scp.part10 import file_head
from scp.rules import keywords_needed

RULES = rules_in_force(())
KEYWORDS = keywords_needed(RULES)
CHEST = "1.2.840.10008.5.1.4.1.1.1.1"
CT_SMALL = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
HEADER_END = CT_SMALL.index(b"\xe0\x7f\x10\x00")
VRS = [b"AT", b"CS", b"DA", b"DS", b"FD", b"IS", b"LO", b"OB", b"PN", b"SQ", b"UI", b"UL", b"UN",
       b"US", b"UT", b"UV", b"ZZ"]  # fmt: skip
PLACES_OF_VRS = [
    at for at in range(132, HEADER_END - 1)
    if CT_SMALL[at : at + 2] in {b"CS", b"DA", b"DS", b"IS", b"LO", b"PN", b"SH", b"UI", b"US"}
]  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def chest(image: Any, path: Path, old: bytes = b"", new: bytes = b"") -> Path:
    """Write a frontal chest radiograph, some of its bytes replaced."""
    one = image(sop_class=CHEST, Modality="DX", BodyPartExamined="CHEST", ViewPosition="PA")
    one.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    assert content.count(old) == 1 or not old
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.parametrize("vr", [b"UL", b"FD", b"US", b"AT", b"SS", b"ZZ"])
def test_a_damaged_element_hides_no_other(image: Any, tmp_path: Path, vr: bytes) -> None:
    path = chest(image, tmp_path / "c.dcm", b"\x18\0\x01\x51CS", b"\x18\0\x01\x51" + vr)
    facts = read_facts(path, KEYWORDS | {"Modality"})
    assert facts["Modality"] == ("DX",)
    assert facts["BodyPartExamined"] == ("CHEST",)


def test_what_is_damaged_is_explained(image: Any, tmp_path: Path) -> None:
    path = chest(image, tmp_path / "c.dcm", b"\x18\0\x01\x51CS", b"\x18\0\x01\x51FD")
    assert read_facts(path, ["ViewPosition"]) == {"ViewPosition": ()}
    assert examine(path, RULES).damaged == ("ViewPosition",)
    assert examine(chest(image, path), RULES).damaged == ()


def test_a_damaged_item_hides_no_other(image: Any, tmp_path: Path) -> None:
    regions = [Dataset(), Dataset()]
    regions[0].CodeMeaning, regions[1].CodeMeaning = "Head", "Neck"
    path = tmp_path / "s.dcm"
    image(AnatomicRegionSequence=regions).save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"LO\x04\0Head", b"FD\x04\0Head"))
    keyword = "AnatomicRegionSequence.CodeMeaning"
    assert read_facts(path, [keyword])[keyword] == ("Neck",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ISO_IR 192", b"ISO_IR\x00192"), (b"ISO_IR 192", b"ISO_IR 999"),
        (b"\x08\0\x05\0CS", b"\x08\0\x05\0UL"), (b"\x08\0\x05\0CS", b"\x08\0\x05\0AT"),
        (b"\x08\0\x05\0CS", b"\x08\0\x05\0ZZ"),
    ],
)  # fmt: skip
def test_a_damaged_character_set_hides_nothing(
    image: Any, tmp_path: Path, old: bytes, new: bytes
) -> None:
    path = chest(image, tmp_path / "c.dcm", old, new)
    assert "pneumothorax" in {route.model for route in examine(path, RULES).decision.routes}


def test_errors_of_the_file_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_facts(tmp_path / "absent.dcm", KEYWORDS)
    with pytest.raises(IsADirectoryError):
        read_facts(tmp_path, KEYWORDS)


changes = st.one_of(
    st.tuples(st.integers(132, HEADER_END + 8), st.binary(min_size=1, max_size=4)),
    st.tuples(st.sampled_from(PLACES_OF_VRS), st.sampled_from(VRS)),
    # A VR and a length of its own: reaches what single bytes seldom do.
    st.tuples(
        st.sampled_from(PLACES_OF_VRS),
        st.builds(lambda vr, n: vr + struct.pack("<H", n), st.sampled_from(VRS),
                  st.integers(0, 0xFFFF)),
    ),
)  # fmt: skip


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(changes, min_size=1, max_size=6), st.integers(132, len(CT_SMALL)))
def test_no_damage_lets_a_foreign_error_out(
    tmp_path: Path, damage: list[tuple[int, bytes]], end: int
) -> None:
    content = bytearray(CT_SMALL)
    for at, new in damage:
        content[at : at + len(new)] = new
    path = tmp_path / "damaged.dcm"
    for whole in (content, content[:end]):
        path.write_bytes(whole)
        try:
            examine(path, RULES)
        except ScpError as error:
            assert str(error).startswith(str(path))
            assert "\n" not in str(error)


def same(path: Path) -> Path:
    """Check that a reader that has read others and one that has not say what `read_facts` says."""
    expected = outcome(lambda: read_facts(path, KEYWORDS))
    reader = FactsReader(KEYWORDS)
    assert outcome(lambda: reader.read(path)) == expected
    assert outcome(lambda: reader.read(path)) == expected
    return path


def outcome(read: Callable[[], object]) -> object:
    try:
        return read()
    except ScpError as error:
        return str(error)


def test_headers_that_say_the_same_are_read_once(image: Any, tmp_path: Path) -> None:
    reader = FactsReader(KEYWORDS)
    paths = []
    for number, view in enumerate(("PA", "PA", "LL", "PA")):
        one = image(sop_class=CHEST, Modality="DX", ViewPosition=view, InstanceNumber=number)
        one.SOPInstanceUID = f"1.2.{number}"
        paths.append(tmp_path / f"{number}.dcm")
        one.save_as(paths[-1], enforce_file_format=True)
    first, second, lateral, third = map(reader.read, paths)
    assert first is second is third
    assert first == read_facts(paths[0], KEYWORDS)
    assert lateral == read_facts(paths[2], KEYWORDS)
    assert (first["ViewPosition"], lateral["ViewPosition"]) == (("PA",), ("LL",))


@pytest.mark.parametrize("undefined_length", [False, True])
def test_what_items_say_tells_headers_apart(
    image: Any, tmp_path: Path, undefined_length: bool
) -> None:
    reader = FactsReader(KEYWORDS)
    found = []
    for meaning in ("frontal", "lateral", "frontal"):
        view = Dataset()
        view.CodeMeaning = meaning
        one = image(sop_class=CHEST, Modality="DX", ViewCodeSequence=[view])
        one["ViewCodeSequence"].is_undefined_length = undefined_length
        path = tmp_path / "one.dcm"
        one.save_as(path, enforce_file_format=True)
        found.append(reader.read(path))
        assert found[-1] == read_facts(path, KEYWORDS)
    assert found[0] is found[2]
    assert found[0] != found[1]


def test_a_value_representation_tells_headers_apart(image: Any, tmp_path: Path) -> None:
    reader = FactsReader(KEYWORDS)
    path = chest(image, tmp_path / "c.dcm")
    assert reader.read(path)["ViewPosition"] == ("PA",)
    chest(image, path, b"\x18\0\x01\x51CS", b"\x18\0\x01\x51US")
    assert reader.read(path) == read_facts(path, KEYWORDS) != {}
    assert reader.read(path)["ViewPosition"] != ("PA",)


def test_real_files_say_the_same_to_either(tmp_path: Path) -> None:
    names = ("CT_small.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "JPEG2000.dcm",
             "liver_1frame.dcm", "rtplan.dcm", "693_J2KI.dcm", "MR_small_implicit.dcm")  # fmt: skip
    large = dcmread(same(Path(str(get_testdata_file("JPEG2000.dcm")))))
    large.PixelData = encapsulate([bytes(200_000), bytes(200_000)])
    large.save_as(tmp_path / "large.dcm")
    reader = FactsReader(KEYWORDS)
    reader.read(same(tmp_path / "large.dcm"))
    assert len(reader._known) == 1  # its pixels go beyond what is looked at
    for name in names:
        same(Path(str(get_testdata_file(name))))


EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def part10(path: Path, syntax: str, data_set: bytes) -> Path:
    path.write_bytes(file_head("1.2.3", "1.2.3.4", syntax, "SENDER") + data_set)
    return path


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


CT = explicit(0x00080060, b"CS", b"CT") + explicit(0x00180015, b"CS", b"HEAD")
PIXELS = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 2) + b"\0\0"


@pytest.mark.parametrize(
    "odd",
    [
        # To pydicom a VR that it does not know has a length of 16 bits: it reads what this hides.
        struct.pack("<HH2sHL", 8, 1, b"ZZ", 0, 18)
        + explicit(0x00080060, b"CS", b"MR") + PIXELS[:8],
        struct.pack("<HH2sHL", 8, 1, b"OX", 0, 0),
        # A sequence without an end in which something else than an item stands.
        struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF)
        + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + b"\x08\0\x05\0ZZ\0\0\0\0\0\0"
        + struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0),
    ],
)  # fmt: skip
def test_what_is_read_otherwise_by_pydicom_spoils_no_other_file(tmp_path: Path, odd: bytes) -> None:
    bad = part10(tmp_path / "bad.dcm", EXPLICIT, odd + CT + PIXELS)
    good = part10(tmp_path / "good.dcm", EXPLICIT, CT + PIXELS)
    for first, second in ((bad, good), (good, bad)):
        reader = FactsReader(KEYWORDS)
        for path in (first, second):
            expected = outcome(lambda path=path: read_facts(path, KEYWORDS))
            assert outcome(lambda path=path, r=reader: r.read(path)) == expected
    assert read_facts(good, KEYWORDS)["Modality"] == ("CT",)


def test_a_length_that_spells_a_vr_spoils_no_other_file(tmp_path: Path) -> None:
    def implicit(tag: int, value: bytes) -> bytes:
        return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value

    said = implicit(0x00080060, b"CT")
    # 0x4955 bytes: "UI", to pydicom a sign that there are VRs.
    odd = implicit(0x00080001, bytes(0x4955))
    bad = part10(tmp_path / "bad.dcm", IMPLICIT, odd + said)
    good = part10(tmp_path / "good.dcm", IMPLICIT, said + implicit(0x00200013, b"1 "))
    reader = FactsReader(KEYWORDS)
    outcome(lambda: reader.read(bad))
    assert reader.read(good) == read_facts(good, KEYWORDS)
    assert reader.read(good)["Modality"] == ("CT",)


def test_not_too_many_are_remembered(image: Any, tmp_path: Path) -> None:
    reader = FactsReader(["SeriesDescription"])
    path = tmp_path / "one.dcm"
    for number in range(300):
        image(SeriesDescription=str(number)).save_as(path, enforce_file_format=True)
        assert reader.read(path) == {"SeriesDescription": (str(number),)}
    assert len(reader._known) == 256


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(changes, min_size=1, max_size=6))
def test_damaged_headers_spoil_no_other_file(
    tmp_path: Path, damage: list[tuple[int, bytes]]
) -> None:
    content = bytearray(CT_SMALL)
    for at, new in damage:
        content[at : at + len(new)] = new
    whole, damaged = tmp_path / "whole.dcm", tmp_path / "damaged.dcm"
    whole.write_bytes(CT_SMALL)
    damaged.write_bytes(content)
    expected = [outcome(lambda p=path: read_facts(p, KEYWORDS)) for path in (whole, damaged)]
    for order in ((0, 1), (1, 0)):
        reader = FactsReader(KEYWORDS)
        for number in order:
            path = (whole, damaged)[number]
            assert outcome(lambda p=path, r=reader: r.read(p)) == expected[number]
