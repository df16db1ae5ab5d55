"""Splits: nobody on two sides, labels spread evenly, the same seed the same parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import InferenceError
from inference.training.samples import Part, Samples
from inference.training.sampling import epoch_batches
from inference.training.split import _parts, any_label, describe, split

SHARES = {"test": 0.2, "validation": 0.2}


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 30), min_size=8, max_size=120).filter(lambda g: len(set(g)) > 3),
    st.integers(0, 1000),
    st.booleans(),
)
def test_every_image_is_in_one_part_and_every_patient_too(
    groups: list[int], seed: int, stratified: bool
) -> None:
    codes = np.array(groups)
    labels = np.random.default_rng(seed).integers(0, 2, (len(groups), 3)).astype(np.uint8)
    parts = split(codes, labels, SHARES, seed, stratified)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(groups)))
    seen = [set(codes[rows].tolist()) for rows in parts.values()]
    assert all(seen)
    assert sum(map(len, seen)) == len(set(groups))
    again = split(codes, labels, SHARES, seed, stratified)
    assert all(np.array_equal(parts[name], again[name]) for name in parts)


def test_stratified_parts_hold_their_share_of_every_label() -> None:
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(600), 3)
    labels = (rng.random((1800, 6)) < [0.1, 0.005, 0.03, 0.03, 0.04, 0.05]).astype(np.uint8)
    parts = split(codes, labels, SHARES, 1, stratified=True)
    whole = any_label(codes, labels).sum(axis=0)
    for row in describe(parts, codes, labels, list("abcdef")):
        share = 0.6 if row["part"] == "training" else 0.2
        assert row["groups"] == pytest.approx(600 * share, rel=0.05)
        for name, count in zip("abcdef", whole, strict=True):
            assert row[name] == pytest.approx(count * share, abs=2)


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_rare_label_is_learnt_and_judged_by(seed: int) -> None:
    """As the documented phantoms: 40 heads, every second bleeds, four of each kind."""
    labels = np.zeros((40, 6), np.uint8)
    for number in range(0, 40, 2):
        labels[number, [0, 1 + number // 2 % 5]] = 1
    codes = np.arange(40)
    shares = {"test": 0.15, "validation": 0.15, "sequence": 0.15}
    parts = split(codes, labels, shares, seed, stratified=True)
    for part in ("training", "validation"):
        assert labels[parts[part]].any(axis=0).all(), part
        assert not labels[parts[part]].all(axis=0).any(), part
    assert [len(parts[part]) for part in shares] == pytest.approx([6, 6, 6], abs=2)


def test_a_label_of_two_patients_is_learnt_and_of_one_goes_anywhere() -> None:
    for seed in range(1, 30):
        labels = np.zeros((12, 2), np.uint8)
        labels[[0, 1], 0] = labels[5, 1] = 1
        parts = split(np.arange(12), labels, SHARES, seed, stratified=True)
        assert labels[parts["training"], 0].any()


def test_a_split_that_lacks_nothing_is_that_of_its_own_seed() -> None:
    rng = np.random.default_rng(4)
    labels = (rng.random((300, 2)) < 0.3).astype(np.uint8)
    codes = np.arange(300)
    first = split(codes, labels, SHARES, 1, stratified=True)
    plain = _parts(codes, labels, SHARES, 1, stratified=True)
    assert all(np.array_equal(first[part], plain[part]) for part in plain)


def test_a_patient_has_each_label_of_an_image() -> None:
    codes = np.array([0, 0, 1])
    labels = np.array([[1, 0], [0, 1], [0, 0]], np.uint8)
    assert any_label(codes, labels).tolist() == [[1, 1], [0, 0]]


def test_too_few_patients_are_refused() -> None:
    labels = np.zeros((4, 1), np.uint8)
    with pytest.raises(InferenceError, match="2 patients or studies cannot be split into 3"):
        split(np.array([0, 0, 1, 1]), labels, SHARES, 1, stratified=False)


def test_another_seed_gives_other_parts() -> None:
    codes, labels = np.arange(50), np.zeros((50, 1), np.uint8)
    first, other = (split(codes, labels, SHARES, seed, False)["test"] for seed in (1, 2))
    assert not np.array_equal(first, other)


def _part(positive: int, negative: int) -> Part:
    count = positive + negative
    labels = np.zeros((count, 2), np.uint8)
    labels[:positive, 1] = 1
    rows, none = np.arange(count), np.zeros(count)
    inputs: Samples = None  # type: ignore[assignment]
    return Part(inputs, rows, labels, rows, rows, none)


def test_a_share_is_drawn_anew_for_each_epoch() -> None:
    part = _part(0, 100)
    epochs = [
        np.concatenate(epoch_batches(part, 5, 0.2, balanced=False, seed=1, epoch=epoch))
        for epoch in (0, 1, 0)
    ]
    assert all(len(np.unique(rows)) == 20 for rows in epochs)
    assert set(epochs[0].tolist()) != set(epochs[1].tolist())
    assert np.array_equal(epochs[0], epochs[2])


def test_balanced_epochs_hold_as_many_with_a_finding_as_without() -> None:
    part = _part(10, 90)
    rows = np.concatenate(epoch_batches(part, 4, 0.2, balanced=True, seed=1, epoch=0))
    assert len(rows) == 20
    assert part.labels[rows].any(axis=1).sum() == 10
    assert not part.labels[rows][:10].all()  # mixed, not one after the other
