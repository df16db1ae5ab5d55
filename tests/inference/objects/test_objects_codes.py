"""The frozen table of codes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import codes
from inference.reading import Code, NotAnalysed, Presence

SNOMED = sorted(value for scheme, value in codes.TABLE if scheme == "SCT")
# Found in public code; the first is a real concept, but of thrombosis.
WRONG = ["83329005", "262052002", "274110009", "13830010", "396533000", "62414007"]


def test_the_table_holds_every_constant_once() -> None:
    constants = [value for value in vars(codes).values() if isinstance(value, Code)]
    assert len(codes.TABLE) > 70
    assert all(codes.TABLE[code.scheme, code.value] == code.meaning for code in constants)


@pytest.mark.parametrize("identifier", SNOMED)
def test_every_snomed_code_passes_its_check_digit(identifier: str) -> None:
    assert codes.verhoeff_ok(identifier)


@pytest.mark.parametrize("identifier", [*WRONG, "", "abc", "12345", "\uff11" * 7, "1" * 19])
def test_wrong_identifiers_fail(identifier: str) -> None:
    assert not codes.verhoeff_ok(identifier)


@given(st.sampled_from(SNOMED), st.data())
def test_one_wrong_digit_or_two_swapped_are_told(identifier: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(identifier) - 2))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != identifier[at]]))
    assert not codes.verhoeff_ok(identifier[:at] + digit + identifier[at + 1 :])
    swapped = identifier[:at] + identifier[at + 1] + identifier[at] + identifier[at + 2 :]
    assert swapped == identifier or not codes.verhoeff_ok(swapped)


@pytest.mark.parametrize("key", sorted(codes.TABLE))
def test_no_code_of_the_table_has_a_fault(key: tuple[str, str]) -> None:
    scheme, value = key
    assert codes.fault(Code(value, scheme, codes.TABLE[key])) is None
    assert codes.TABLE[key].isascii()


def test_a_known_code_with_another_meaning_is_a_fault() -> None:
    fault = codes.fault(Code("36118008", "SCT", "Hemothorax"))
    assert fault is not None and "Pneumothorax" in fault


@pytest.mark.parametrize(
    "code", [Code("1" * 17, "99X", "long"), Code("", "99X", "none"), Code("1", "99X", "m" * 65)]
)
def test_lengths_beyond_the_value_representation_are_faults(code: Code) -> None:
    assert codes.fault(code) is not None


def test_every_outcome_has_a_code() -> None:
    assert set(codes.NOT_ANALYSED) == set(NotAnalysed)
    assert set(codes.PRESENCE) == set(Presence)
    assert all(codes.PRESENCE[p].meaning == p.value for p in Presence)


def test_codes_agree_with_pydicoms_dictionary() -> None:
    """The dictionary is made from PS3.16; meanings may be worded in other ways, values not."""
    from pydicom.sr._concepts_dict import concepts

    known = {
        (scheme, value)
        for scheme in ("DCM", "UCUM")
        for entry in concepts[scheme].values()
        for value in entry
    }
    ours = {key for key in codes.TABLE if key[0] in ("DCM", "UCUM")}
    # Units of UCUM that the standard's tables leave out; the millilitre is theirs as cm3 only.
    assert ours - known <= {("UCUM", "{pixels}"), ("UCUM", "{-1:1}"), ("UCUM", "ml")}
