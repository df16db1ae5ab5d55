"""Figures against scikit-learn and SciPy on any scores, and against values worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.codes import PNEUMOTHORAX
from inference.evaluation import ranking
from inference.evaluation.calibration import brier, expected_calibration_error, reliability
from inference.evaluation.intervals import (
    bootstrap,
    effective_trials,
    patient_numbers,
    wilson,
)
from inference.evaluation.label_figures import label_figures, majority_accuracy
from inference.evaluation.losses import label_weights, log_loss, weighted_log_losses
from inference.evaluation.metrics import Confusion, cohens_kappa, confusion, f1, proportion
from inference.reading import Label, Thresholds

reference = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")

LABEL = Label("pneumothorax", PNEUMOTHORAX, Thresholds(0.3, 0.5))
Data = tuple[NDArray[np.float64], NDArray[np.bool_]]


def arrays(pairs: list[tuple[float, bool]]) -> Data:
    return np.array([p for p, _ in pairs]), np.array([t for _, t in pairs], dtype=np.bool_)


# Few distinct scores, so that ties are the rule; and any score at all.
COARSE = st.integers(0, 5).map(lambda step: step / 5)
SCORE = st.one_of(COARSE, st.floats(0.0, 1.0, allow_subnormal=False))
PAIRS = st.lists(st.tuples(SCORE, st.booleans()), min_size=1, max_size=60).map(arrays)
BOTH = PAIRS.filter(lambda data: bool(data[1].any()) and not data[1].all())
COUNTS = st.integers(0, 40)


@settings(deadline=None)
@given(BOTH)
def test_ranking_agrees_with_scikit_learn(data: Data) -> None:
    scores, truth = data
    tallies = ranking.rank(scores, truth).tallies()
    assert ranking.auc(tallies) == pytest.approx(reference.roc_auc_score(truth, scores))
    expected = reference.average_precision_score(truth, scores)
    assert ranking.average_precision(tallies) == pytest.approx(expected)
    fpr, tpr, _ = reference.roc_curve(truth, scores, drop_intermediate=False)
    curve = ranking.roc_curve(tallies)
    assert curve is not None
    np.testing.assert_allclose(curve, (fpr, tpr), atol=1e-12)
    precision, recall, _ = reference.precision_recall_curve(truth, scores)
    ours = ranking.precision_recall_curve(tallies)
    assert ours is not None
    np.testing.assert_allclose(ours[0], recall[:-1][::-1], atol=1e-12)
    np.testing.assert_allclose(ours[1], precision[:-1][::-1], atol=1e-12)


@settings(deadline=None)
@given(BOTH, st.data())
def test_a_weight_is_a_repetition(data: Data, draw: st.DataObject) -> None:
    """What the bootstrap relies on: weights count as if images stood there several times."""
    scores, truth = data
    times = np.array(draw.draw(st.lists(st.integers(0, 3), min_size=len(truth),
                                        max_size=len(truth))))  # fmt: skip
    weights = times.astype(np.float64)
    many, true = np.repeat(scores, times), np.repeat(truth, times)
    weighted = ranking.rank(scores, truth).tallies(weights)
    repeated = ranking.rank(many, true).tallies()
    for figure in (ranking.auc, ranking.average_precision):
        assert figure(weighted) == pytest.approx(figure(repeated))
    assert confusion(scores, truth, 0.5, weights) == confusion(many, true, 0.5)
    for statistic in (brier, expected_calibration_error, log_loss):
        assert statistic(scores, truth, weights) == pytest.approx(statistic(many, true))


@settings(deadline=None)
@given(PAIRS, st.floats(0.0, 1.0))
def test_decisions_agree_with_scikit_learn(data: Data, threshold: float) -> None:
    scores, truth = data
    counts = confusion(scores, truth, threshold)
    called = scores >= threshold
    tn, fp, fn, tp = reference.confusion_matrix(truth, called, labels=[False, True]).ravel()
    assert counts == Confusion(tp=tp, fp=fp, tn=tn, fn=fn)
    assert proportion("accuracy", counts) == pytest.approx(reference.accuracy_score(truth, called))
    for name, positive in (("sensitivity", True), ("specificity", False)):
        expected = reference.recall_score(truth, called, pos_label=positive, zero_division=np.nan)
        assert (proportion(name, counts) is None) == math.isnan(expected)
        if not math.isnan(expected):
            assert proportion(name, counts) == pytest.approx(expected)
    for name, positive in (("ppv", True), ("npv", False)):
        expected = reference.precision_score(
            truth, called, pos_label=positive, zero_division=np.nan
        )
        assert (proportion(name, counts) is None) == math.isnan(expected)
        if not math.isnan(expected):
            assert proportion(name, counts) == pytest.approx(expected)
    expected = reference.f1_score(truth, called, zero_division=np.nan)
    ours = f1(counts)
    assert ours is None if math.isnan(expected) else ours == pytest.approx(expected)


@settings(deadline=None)
@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_kappa_agrees_with_scikit_learn(tp: int, fp: int, tn: int, fn: int) -> None:
    counts = Confusion(tp, fp, tn, fn)
    truth = [True] * (tp + fn) + [False] * (fp + tn)
    called = [True] * tp + [False] * fn + [True] * fp + [False] * tn
    ours = cohens_kappa(counts)
    if ours is None:
        assert len(set(truth)) < 2 and set(truth) == set(called)
    else:
        assert ours == pytest.approx(reference.cohen_kappa_score(truth, called))


@settings(deadline=None)
@given(PAIRS)
def test_losses_agree_with_scikit_learn(data: Data) -> None:
    scores, truth = data
    expected = reference.log_loss(truth, np.clip(scores, 1e-15, 1 - 1e-15), labels=[False, True])
    assert log_loss(scores, truth) == pytest.approx(expected, rel=1e-3)
    assert brier(scores, truth) == pytest.approx(reference.brier_score_loss(truth, scores))


@settings(deadline=None)
@given(BOTH)
def test_reliability_agrees_with_scikit_learn(data: Data) -> None:
    from sklearn.calibration import calibration_curve

    scores, truth = data
    observed, predicted = calibration_curve(truth, scores, n_bins=10, strategy="uniform")
    bins = reliability(scores, truth)
    np.testing.assert_allclose([one.observed for one in bins], observed)
    np.testing.assert_allclose([one.predicted for one in bins], predicted)
    gaps = [one.count * abs(one.observed - one.predicted) for one in bins]
    ece = expected_calibration_error(scores, truth)
    assert ece == pytest.approx(sum(gaps) / len(truth))


@settings(deadline=None)
@given(st.integers(1, 200), st.data())
def test_wilson_agrees_with_scipy(trials: int, draw: st.DataObject) -> None:
    successes = draw.draw(st.integers(0, trials))
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((expected.low, expected.high))


def test_the_bootstrap_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(80) < 0.4
    scores = np.clip(0.5 + 0.25 * (truth - 0.5) + 0.2 * rng.standard_normal(80), 0, 1)
    ranked = ranking.rank(scores, truth)
    ours = bootstrap(
        {"auc": lambda w: ranking.auc(ranked.tallies(w))}, np.arange(80), resamples=2000
    )["auc"]
    theirs = stats.bootstrap(
        (scores, truth), lambda s, t: reference.roc_auc_score(t.astype(bool), s), paired=True,
        vectorized=False, n_resamples=400, method="percentile", rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_patients_are_resampled_and_not_images() -> None:
    """Ten copies of each image make a study no surer."""
    rng = np.random.default_rng(4)
    truth = np.arange(40) % 2 == 0
    scores = np.clip(0.5 + 0.2 * (truth - 0.5) + 0.2 * rng.standard_normal(40), 0, 1)
    patients = np.arange(40)
    once = label_figures(LABEL, scores, truth, patients).figures
    tenfold = [np.repeat(values, 10) for values in (scores, truth, patients)]
    many = label_figures(LABEL, *tenfold).figures
    for name, figure in once.items():
        assert many[name].value == pytest.approx(figure.value), name
        assert figure.low is not None and figure.high is not None
        width = (many[name].high or 0) - (many[name].low or 0)
        # Of shares a little wider: how alike the images of a patient are is not known for sure.
        near = (0.0, 0.15) if figure.method == "wilson" else (-0.05, 0.05)
        assert near[0] <= width / (figure.high - figure.low) - 1 <= near[1], name


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 8)), max_size=50))
def test_effective_trials_lie_between_one_and_all(rows: list[tuple[bool, bool, int]]) -> None:
    successes, trials = (np.array([row[i] for row in rows], dtype=np.bool_) for i in (0, 1))
    groups = np.array([row[2] for row in rows], dtype=np.intp)
    count = int(trials.sum())
    effective = effective_trials(successes, trials, groups)
    assert min(count, 1) <= effective <= count
    if len(set(groups[trials])) == count:
        assert effective == count


def test_figures_worked_by_hand() -> None:
    counts = Confusion(tp=20, fp=5, tn=60, fn=15)
    assert f1(counts) == pytest.approx(40 / 60)
    # Observed 0.8, by chance 0.25 * 0.35 + 0.75 * 0.65 = 0.575.
    assert cohens_kappa(counts) == pytest.approx(0.225 / 0.425)
    assert proportion("ppv", counts) == 0.8
    assert majority_accuracy(counts) == 0.65
    # Always "no" on the 50 images of the tutorial, 15 of them positive.
    assert majority_accuracy(Confusion(0, 0, 35, 15)) == 0.7
    # 81 of 263 (Newcombe, Statistics in Medicine 1998): 0.2553 to 0.3662.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0


def test_the_competitions_loss_counts_any_double() -> None:
    names = ("epidural", "any")
    assert list(label_weights(names)) == pytest.approx([1 / 3, 2 / 3])
    scores, truth = np.array([[0.5, 0.25]]), np.array([[True, True]])
    expected = (math.log(2) + 2 * math.log(4)) / 3
    assert weighted_log_losses(scores, truth, names) == pytest.approx([expected])
    assert np.isfinite(weighted_log_losses(np.array([[0.0, 1.0]]), truth, names)).all()


def test_named_thresholds_are_where_they_say() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
    truth = np.array([False, False, True, False, True, True])
    ranked = ranking.rank(scores, truth)
    assert ranking.youden_threshold(ranked) == 0.7
    assert ranking.threshold_for_sensitivity(ranked, 1.0) == 0.3
    assert ranking.threshold_for_specificity(ranked, 1.0) == 0.7
    assert ranking.threshold_for_specificity(ranked, 0.6) == 0.3


@pytest.mark.parametrize(
    ("truth", "undefined", "said"),
    [
        ([], {"auc", "f1", "kappa", "brier", "accuracy", "sensitivity"}, "no images"),
        ([False] * 4, {"auc", "average_precision", "sensitivity"}, "no positive images"),
        ([True] * 4, {"auc"}, "all images are positive"),
    ],
)
def test_what_is_undefined_is_none_with_its_reason(
    truth: list[bool], undefined: set[str], said: str
) -> None:
    scores = np.linspace(0, 1, len(truth))
    groups = np.arange(len(truth))
    found = label_figures(LABEL, scores, np.array(truth, dtype=np.bool_), groups)
    for name in undefined:
        assert found.figures[name].value is None, name
        assert found.figures[name].text() == "-"
        assert found.figures[name].reason
    assert said in {found.figures[name].reason for name in undefined}
    assert found.roc is None


def test_one_patient_has_figures_and_no_interval() -> None:
    scores, truth = np.array([0.2, 0.9]), np.array([False, True])
    found = label_figures(LABEL, scores, truth, patient_numbers(["a", "a"])).figures
    assert found["auc"].value == 1.0
    assert found["auc"].low is None
    assert "too few patients" in found["auc"].reason


@settings(max_examples=30, deadline=None)
@given(PAIRS)
def test_the_table_and_the_presence_count_every_image(data: Data) -> None:
    scores, truth = data
    found = label_figures(LABEL, scores, truth, np.arange(len(truth)), resamples=2)
    assert all(row.counts.total == len(truth) for row in found.table)
    assert [row.threshold for row in found.table] == sorted(row.threshold for row in found.table)
    assert sum(sum(pair) for pair in found.presence.values()) == len(truth)
    for score, true in zip(scores, truth, strict=True):
        assert found.presence[LABEL.thresholds.presence(float(score))][int(true)] > 0
