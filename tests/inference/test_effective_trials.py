"""Shares of images of few or unequal patients: no surer than the data can make them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from inference.evaluation.intervals import effective_trials, wilson
from inference.evaluation.student import t_quantile


def trials_of(outcomes: list[list[bool]]) -> float:
    """Return the effective trials of patients, each with the outcomes of its images."""
    found = np.concatenate([np.array(one, dtype=bool) for one in outcomes])
    groups = np.repeat(np.arange(len(outcomes)), [len(one) for one in outcomes])
    return effective_trials(found, np.ones(len(found), dtype=bool), groups)


def coverage(patients: int, sizes: list[int], share: float, alike: float) -> float:
    """Return how often the interval holds the share; `alike` is the correlation in a patient."""
    rng = np.random.default_rng(5)
    odds = (1 - alike) / alike
    held = 0
    for _ in range(500):
        groups = np.repeat(np.arange(patients), rng.choice(sizes, patients))
        own = rng.beta(share * odds, (1 - share) * odds, patients)
        found = rng.random(len(groups)) < own[groups]
        trials = effective_trials(found, np.ones(len(found), dtype=bool), groups)
        low, high = wilson(found.mean() * trials, trials)
        held += low <= share <= high
    return held / 500


@pytest.mark.parametrize(
    ("patients", "sizes", "share"),
    [
        (2, [20], 0.5), (3, [10], 0.5), (5, [20], 0.9), (30, [20], 0.97),
        (10, [1, 1, 1, 1, 30], 0.5), (50, [1, 1, 1, 1, 30], 0.9), (50, [1, 1, 1, 1, 30], 0.97),
    ],
)  # fmt: skip
@pytest.mark.parametrize("alike", [0.3, 0.7])
def test_an_interval_of_95_percent_holds_the_share_about_as_often(
    patients: int, sizes: list[int], share: float, alike: float
) -> None:
    assert coverage(patients, sizes, share, alike) >= 0.92


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=3, max_size=12))
def test_it_is_the_jackknife_over_patients(outcomes: list[list[bool]]) -> None:
    """Each patient left out in turn, by loops."""
    images = [one for patient in outcomes for one in patient]
    sizes = [len(patient) for patient in outcomes]
    count, patients = len(images), len(outcomes)
    alike = count**2 / sum(size**2 for size in sizes)
    if count == patients:
        assert trials_of(outcomes) == count
        return
    if sum(images) in (0, count):
        assert trials_of(outcomes) == pytest.approx(alike)
        return
    usual = sum(size**2 for size in sizes) / count
    share = (sum(images) + 0.1 * usual) / (count + 0.2 * usual)
    left_out = [
        (sum(images) - sum(one) - share * (count - len(one))) / (count - len(one))
        - (sum(images) - share * count) / (count - len(one))
        for one in outcomes
    ]
    variance = (patients - 1) / patients * sum((x * count) ** 2 for x in left_out)
    variance += 0.1 * usual**2 * (share**2 + (1 - share) ** 2)
    times = variance / (share * (1 - share) * (count + 0.2 * usual))
    sure = (1.959964 / stats.t.ppf(0.975, max(1.0, alike - 1))) ** 2
    expected = max(alike, min(count, count / times) * sure)
    assert trials_of(outcomes) == pytest.approx(expected, rel=1e-4)


def test_two_patients_of_the_same_share_are_no_thousand_images() -> None:
    assert trials_of([[True, False] * 250] * 2) == pytest.approx(2.0)
    assert trials_of([[True, False] * 250]) == 1.0
    assert 1.0 <= trials_of([[True] * 1000, [False]]) < 1.01


def test_many_patients_of_images_that_differ_count_nearly_as_images() -> None:
    rng = np.random.default_rng(2)
    outcomes = [list(rng.random(5) < 0.5) for _ in range(400)]
    assert 1700 < trials_of(outcomes) <= 2000


@given(st.floats(0.5, 0.975), st.floats(1.0, 1e6))
def test_quantiles_are_those_of_scipy(share: float, freedom: float) -> None:
    expected = stats.t.ppf(share, freedom)
    assert t_quantile(share, freedom) == pytest.approx(expected, rel=1e-4, abs=1e-5)
