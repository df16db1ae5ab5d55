"""Thresholds: valid, between what can be told apart, and round."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.reading import Thresholds
from inference.training.thresholds import choose_thresholds

CASES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8, 1.0]), st.booleans()),
    min_size=2,
    max_size=40,
)


def sensitivity(scores: NDArray[np.float64], truth: NDArray[np.bool_], high: float) -> float:
    return float((scores[truth] >= high).mean())


def specificity(scores: NDArray[np.float64], truth: NDArray[np.bool_], high: float) -> float:
    return float((scores[~truth] < high).mean())


@given(CASES)
def test_thresholds_are_valid_and_separate_what_can_be_separated(
    cases: list[tuple[float, bool]],
) -> None:
    scores, truth = np.array([c[0] for c in cases]), np.array([c[1] for c in cases])
    chosen = choose_thresholds(scores, truth)
    assert 0 <= chosen.low <= chosen.high <= 1
    if truth.any() and not truth.all() and scores[truth].min() > scores[~truth].max():
        # But for the shares that may be missed and may alarm.
        assert (scores[truth] < chosen.high).sum() <= np.ceil(0.05 * truth.sum())
        assert (scores[~truth] >= chosen.low).sum() <= np.ceil(0.02 * (~truth).sum())


@pytest.mark.parametrize(
    ("negatives", "positives"),
    [(1e-4, 4e-4), (0.5, 0.5004), (0.9990, 0.9999), (1e-9, 2e-9), (0.0, 1e-6), (0.2, 0.9)],
)
def test_thresholds_lie_in_a_gap_however_narrow(negatives: float, positives: float) -> None:
    scores, truth = np.repeat([negatives, positives], 10), np.repeat([False, True], 10)
    chosen = choose_thresholds(scores, truth)
    assert negatives < chosen.low <= chosen.high <= positives
    assert sensitivity(scores, truth, chosen.high) == specificity(scores, truth, chosen.high) == 1


@pytest.mark.parametrize("scale", [1e-4, 1.0])
@pytest.mark.parametrize("from_one", [False, True])
def test_overlapping_scores_near_an_end_still_are_told_apart(scale: float, from_one: bool) -> None:
    scores = np.concatenate([np.linspace(0.1, 0.5, 100), np.linspace(0.4, 0.9, 100)]) * scale
    truth = np.repeat([False, True], 100)
    if from_one:
        scores, truth = 1 - scores, ~truth
    chosen = choose_thresholds(scores, truth)
    assert sensitivity(scores, truth, chosen.high) > 0.6
    assert specificity(scores, truth, chosen.high) > 0.97
    assert (scores[~truth] < chosen.low).mean() > 0.7


def test_ordinary_thresholds_are_round() -> None:
    scores, truth = np.array([0.1, 0.9]), np.array([False, True])
    assert choose_thresholds(scores, truth) == Thresholds(0.367, 0.633)
