"""Facts from damaged headers: one bad element hides no other, and only our errors get out."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from scp import explain, rules_in_force
from scp.errors import ScpError
from scp.facts import read_facts
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
    assert "ViewPosition: damaged, taken as absent" in explain(path, RULES)
    assert "taken as absent" not in explain(chest(image, path), RULES)


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
    assert "-> pneumothorax" in explain(path, RULES)


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
            explain(path, RULES)
        except ScpError as error:
            assert str(error).startswith(str(path))
            assert "\n" not in str(error)
