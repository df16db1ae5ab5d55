"""One bootstrap and one AUC, for reports and for cards: against images that really are repeated.

What a card says was drawn by index and ranked anew; here it still is, by scikit-learn.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.evaluation import ranking
from inference.evaluation.figures import resampled_figure
from inference.evaluation.intervals import bootstrap, over, resampled
from inference.evaluation.shares import share_figures
from inference.reading import Thresholds
from inference.training import chest_measure, reference_figures
from inference.training.card import figures_table
from inference.training.measured import measure
from inference.training.reference_card import Measured, card_of
from inference.training.reference_hemorrhage import LABELS, ReferenceSettings
from inference.training.reference_hemorrhage import Scores as PaintedScores

reference = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")

Scores, Truth = NDArray[np.float64], NDArray[np.bool_]


def drawn_data(seed: int, images: int) -> tuple[Scores, Truth]:
    """Return scores with ties, and what is true."""
    rng = np.random.default_rng(seed)
    truth = rng.random(images) < 0.4
    return np.round(np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1), 2), truth


def percentiles(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def test_the_intervals_of_the_hemorrhage_card_are_those_of_repeated_images() -> None:
    scores, truth = drawn_data(1, 90)
    rng = np.random.default_rng(13)
    areas = []
    for _ in range(1000):
        rows = rng.integers(len(scores), size=len(scores))
        if 0 < truth[rows].sum() < len(rows):
            areas.append(reference.roc_auc_score(truth[rows], scores[rows]))
    found = reference_figures.auc_with_interval(scores, truth)
    assert found.value == pytest.approx(reference.roc_auc_score(truth, scores), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(percentiles(areas), abs=1e-12)


def area_of(scores: Scores, truth: Truth, folds: list[NDArray[np.int64]]) -> float:
    """Return the share of pairs in order, of pairs within a fold."""
    won = pairs = 0
    for rows in folds:
        count = int(truth[rows].sum()) * int((~truth[rows]).sum())
        if count:
            won += count * reference.roc_auc_score(truth[rows], scores[rows])
            pairs += count
    return won / pairs


def test_the_intervals_of_the_chest_card_are_those_of_repeated_patients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draws = 200
    monkeypatch.setattr(chest_measure, "_RESAMPLED", draws)
    scores, _ = drawn_data(2, 72)
    others, truth = drawn_data(3, 72)
    rng = np.random.default_rng(5)
    patients = rng.integers(0, 25, 72)
    named = np.array([f"p{number}" for number in patients])
    folds = (patients % 2).astype(np.int64)

    rng = np.random.default_rng([7, 41])
    strata: list[list[list[NDArray[np.int64]]]] = []
    for fold in (0, 1):
        here = folds == fold
        sick = set(named[here & truth])
        kinds = (sorted(sick), sorted(set(named[here]) - sick))
        strata.append([[np.flatnonzero(here & (named == p)) for p in kind] for kind in kinds])
    first, both = [], []
    for _ in range(draws):
        rows = [
            np.concatenate([kind[i] for kind in kinds if kind
                            for i in rng.integers(len(kind), size=len(kind))])
            for kinds in strata
        ]  # fmt: skip
        first.append(area_of(scores, truth, rows))
        both.append(first[-1] - area_of(others, truth, rows))
    each = [np.flatnonzero(folds == fold) for fold in (0, 1)]

    found = chest_measure.rank(scores, truth, named.tolist(), folds, seed=7)
    assert found.auc == pytest.approx(area_of(scores, truth, each), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(percentiles(first), abs=1e-12)
    gain = chest_measure.gain(scores, others, truth, named.tolist(), folds, seed=7)
    plainly = area_of(scores, truth, each) - area_of(others, truth, each)
    assert gain == pytest.approx((plainly, *percentiles(both)), abs=1e-12)


def test_the_hemorrhage_card_has_intervals_of_shares() -> None:
    """Each slice is there in two forms that mostly agree: they count as fewer than two."""
    rng = np.random.default_rng(8)
    truth = np.repeat(rng.random(50) < 0.5, 6).reshape(50, 6)
    said = np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1)
    forms = [PaintedScores(form, said, truth, np.full(50, "drawn")) for form in ("hu", "picture")]
    limits = {name: Thresholds(0.2, 0.5) for name in LABELS}
    found = reference_figures.share_above(forms, limits)
    alone = reference_figures.share_above(forms[:1], limits)
    for both, one in zip(found, alone, strict=True):
        # Little less sure than one form alone, and not as sure as twice as many slices would be.
        assert both.interval == pytest.approx(one.interval, abs=0.04)
        assert both.low is not None and one.low is not None and both.low <= one.low
        assert both.high is not None and one.high is not None and both.high >= one.high
    areas = reference_figures.aucs(forms, reference_figures.drawn_only)
    measured = Measured(
        ReferenceSettings(), limits, areas, areas, [areas], {"hu": areas, "picture": areas},
        found, (0.5, 0.75, 25), [], [],
    )  # fmt: skip
    sensitivity, specificity = (figure.text() for figure in found)
    card = card_of(measured, "0.0.1", "0" * 64)
    assert f"sensitivity {sensitivity}, specificity {specificity} (95 % after Wilson" in card
    assert " to " in sensitivity
    assert f"| any | {areas['any']} of " in card


def test_a_training_and_a_report_measure_alike() -> None:
    scores, truth = drawn_data(4, 60)
    patients = np.arange(60) // 2 * 10  # numbers need not be dense
    found = measure(scores, truth, patients, Thresholds(0.3, 0.5), seed=4).figures
    rng = np.random.default_rng([4, 17])
    areas = []
    for _ in range(1000):
        rows = np.concatenate([[2 * i, 2 * i + 1] for i in rng.integers(30, size=30)])
        if 0 < truth[rows].sum() < len(rows):
            areas.append(reference.roc_auc_score(truth[rows], scores[rows]))
    assert found["auc"].interval == pytest.approx(percentiles(areas), abs=1e-12)
    decided = share_figures(0.5, scores, truth, patients)
    assert [found[n] for n in ("sensitivity", "specificity", "accuracy")] == [
        decided[n] for n in ("sensitivity", "specificity", "accuracy")
    ]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_shares_of_images_have_the_interval_of_scipy(tp: int, fn: int, fp: int, tn: int) -> None:
    scores = np.repeat([0.9, 0.1, 0.9, 0.1], [tp, fn, fp, tn])
    truth = np.repeat([True, True, False, False], [tp, fn, fp, tn])
    found = share_figures(0.5, scores, truth, np.arange(len(scores)))
    counted = {
        "sensitivity": (tp, tp + fn), "specificity": (tn, tn + fp),
        "ppv": (tp, tp + fp), "npv": (tn, tn + fn), "accuracy": (tp + tn, len(scores)),
    }  # fmt: skip
    for name, (successes, trials) in counted.items():
        if not trials:
            assert found[name].value is None and found[name].reason
            continue
        expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
        assert found[name].value == pytest.approx(successes / trials)
        assert found[name].interval == pytest.approx((expected.low, expected.high))
        low, high = found[name].interval or (0.0, 0.0)
        assert high - low > 0.01


def test_a_share_of_all_counts_patients_and_is_no_point() -> None:
    """Ten images of each of five patients, all found: as sure as five images are."""
    scores, truth, patients = np.full(50, 0.9), np.ones(50, bool), np.arange(50) // 10
    figures = measure(scores, truth, patients, Thresholds(0.3, 0.5)).figures
    expected = stats.binomtest(5, 5).proportion_ci(method="wilson")
    assert figures["sensitivity"].interval == pytest.approx((expected.low, expected.high))
    assert figures["auc"].value is None and figures["specificity"].value is None


def test_a_card_says_no_interval_of_one_point() -> None:
    scores, truth = np.array([0.9] * 10 + [0.1] * 10), np.repeat([True, False], 10)
    found = measure(scores, truth, np.arange(20), Thresholds(0.3, 0.5))
    assert found.figures["auc"].interval is None
    assert "no resample differs" in found.figures["auc"].reason
    row = figures_table({"any": found}).splitlines()[-1]
    whole = "1.000 (0.722-1.000)"
    assert row == f"| any | 10 | 10 | 1.000 | {whole} | {whole} | 1.000 (0.839-1.000) |"


def test_intervals_hold_the_figure_and_shrink_with_patients() -> None:
    rng = np.random.default_rng(3)

    def width(patients: int) -> float:
        groups = np.repeat(np.arange(patients), 3)
        truth = np.repeat(np.arange(patients) % 2 == 0, 3)
        scores = np.clip(rng.normal(0.4 + 0.2 * truth, 0.15), 0, 1)
        area = measure(scores, truth, groups, Thresholds(0.4, 0.5)).figures["auc"]
        assert area.value is not None and area.interval is not None
        assert area.interval[0] < area.value < area.interval[1]
        return area.interval[1] - area.interval[0]

    assert width(400) < width(25)


def test_images_of_one_patient_are_no_more_than_one_patient() -> None:
    scores, truth = drawn_data(6, 12)
    ranked = ranking.rank(scores, truth)
    tenfold = ranking.rank(np.repeat(scores, 10), np.repeat(truth, 10))
    once, many = (
        bootstrap({"auc": lambda w, one=one: ranking.auc(one.tallies(w))}, groups)["auc"]
        for one, groups in ((ranked, np.arange(12)), (tenfold, np.repeat(np.arange(12), 10)))
    )
    assert once == many


def test_each_kind_of_patient_is_drawn_as_often_as_there_are() -> None:
    groups = np.array([0, 0, 1, 2, 3, 3, 3, 4])
    strata = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    seen = list(resampled(groups, np.random.default_rng(2), 50, strata))
    assert len(seen) == 50 and len({tuple(one) for one in seen}) > 10
    for weights in seen:
        assert weights[0] == weights[1] and len(set(weights[4:7])) == 1
        assert weights[[0, 2, 3]].sum() == 3 and weights[[4, 7]].sum() == 2


def test_where_nothing_can_vary_there_is_no_interval() -> None:
    alone = np.zeros(4, dtype=np.intp)
    assert list(resampled(alone, np.random.default_rng(1))) == []
    assert list(resampled(np.arange(2), np.random.default_rng(1), strata=np.arange(2))) == []
    assert over({"mean": lambda w: float(w.mean())}, [])["mean"] is None
    assert resampled_figure(0.5, None, "").reason == "too few patients for an interval"
    assert resampled_figure(None, None, "why").reason == "why"
