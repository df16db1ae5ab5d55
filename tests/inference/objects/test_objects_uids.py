"""UIDs that follow from what they name."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.objects import uids
from inference.reading import ModelIdentity

MODEL = ModelIdentity("ptx", "1.0.0", "a" * 64)


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\x1f"), max_size=40), max_size=6
    )
)
def test_a_derived_uid_is_a_valid_2_25_uid_and_stable(words: list[str]) -> None:
    uid = uids.derive_uid("role", *words)
    assert uid.is_valid and uid.startswith("2.25.") and len(uid) <= 64
    assert uid == uids.derive_uid("role", *words)


@given(st.lists(st.text("0123456789."), min_size=1, unique=True), st.randoms())
def test_the_input_digest_ignores_order_and_repetition(
    names: list[str], random: st.randoms
) -> None:
    shuffled = [*names, names[0]]
    random.shuffle(shuffled)
    assert uids.input_digest(shuffled) == uids.input_digest(names)
    assert uids.input_digest([*names, "1.2.3-more"]) != uids.input_digest(names)


@pytest.mark.parametrize(
    "change", [{"name": "other"}, {"version": "1.0.1"}, {"weights_sha256": "b" * 64}]
)
def test_the_device_changes_with_model_version_and_weights(change: dict[str, str]) -> None:
    assert uids.device_uid(MODEL) == uids.device_uid(dataclasses.replace(MODEL))
    assert uids.device_uid(dataclasses.replace(MODEL, **change)) != uids.device_uid(MODEL)


def test_every_part_of_an_object_counts() -> None:
    device = uids.device_uid(MODEL)
    base = ("sr", "1.2", device, "inputs", "content")
    others = [
        ("sc", *base[1:]),
        ("sr", "1.3", *base[2:]),
        ("sr", "1.2", uids.device_uid(dataclasses.replace(MODEL, weights_sha256="b")), *base[3:]),
        ("sr", "1.2", device, "more", "content"),
        ("sr", "1.2", device, "inputs", "another"),
    ]
    assert len({uids.object_uid(*parts) for parts in [base, *others]}) == 6


def test_words_do_not_run_together() -> None:
    assert uids.derive_uid("r", "ab", "c") != uids.derive_uid("r", "a", "bc")


def test_derived_uids_are_frozen() -> None:
    """Stored objects are recognised by these for years: a change here is a change of identity."""
    assert uids.device_uid(MODEL) == "2.25.318310586426046208042686796795412365557"
