"""Everything that is measured of one label on one set of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..reading import Label, Presence, Thresholds
from . import ranking
from .calibration import ReliabilityBin, brier, expected_calibration_error, reliability
from .figures import Figure, resampled_figure
from .intervals import RESAMPLES, Statistic, bootstrap
from .losses import log_loss
from .metrics import Confusion, Scores, Truth, cohens_kappa, confusion, f1
from .shares import share_figures

# Thresholds of the table, besides those with a name.
_GRID = tuple(round(step / 20, 2) for step in range(1, 20))
_SENSITIVE = _SPECIFIC = 0.95

_ONE_CLASS = {True: "all images are positive", False: "no positive images"}


@dataclass(frozen=True, slots=True)
class ThresholdRow:
    """What calling positive from one threshold on would mean."""

    threshold: float
    names: tuple[str, ...]
    counts: Confusion


@dataclass(frozen=True, slots=True, eq=False)
class LabelFigures:
    """The figures of one label.

    Attributes
    ----------
    images, patients, positives : int
    thresholds : Thresholds
        Of the bundle; decisions are made at the upper one.
    counts : Confusion
        At the upper threshold.
    presence : mapping of str to (int, int)
        Negative and positive images by what the node would say of them.
    figures : mapping of str to Figure
    roc, precision_recall : tuple of ndarray, or None
        False and true positive rates; recall and precision.
    """

    name: str
    images: int
    patients: int
    positives: int
    thresholds: Thresholds
    counts: Confusion
    presence: Mapping[str, tuple[int, int]]
    figures: Mapping[str, Figure]
    roc: tuple[ranking.Curve, ranking.Curve] | None
    precision_recall: tuple[ranking.Curve, ranking.Curve] | None
    reliability: tuple[ReliabilityBin, ...]
    table: tuple[ThresholdRow, ...]
    scores: Scores
    truth: Truth

    @property
    def negatives(self) -> int:
        """Negative images."""
        return self.images - self.positives


def label_figures(
    label: Label,
    scores: Scores,
    truth: Truth,
    groups: NDArray[np.intp],
    *,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> LabelFigures:
    """Measure one label.

    Parameters
    ----------
    label : Label
        Its name and thresholds.
    scores : ndarray, (n,)
        0 to 1.
    truth : ndarray of bool, (n,)
    groups : ndarray of int, (n,)
        Patient of each image, from 0.
    resamples, seed : int
        Of the bootstrap.
    """
    ranked = ranking.rank(scores, truth)
    tallies = ranked.tallies()
    counts = confusion(scores, truth, label.thresholds.high)
    return LabelFigures(
        name=label.name,
        images=len(scores),
        patients=len(np.unique(groups)),
        positives=int(truth.sum()),
        thresholds=label.thresholds,
        counts=counts,
        presence=_presence(label.thresholds, scores, truth),
        figures={
            **_resampled(label.thresholds.high, ranked, scores, groups, resamples, seed),
            **share_figures(label.thresholds.high, scores, truth, groups),
        },
        roc=ranking.roc_curve(tallies),
        precision_recall=ranking.precision_recall_curve(tallies),
        reliability=reliability(scores, truth),
        table=_table(label.thresholds, ranked, scores),
        scores=scores,
        truth=truth,
    )


def _resampled(
    threshold: float,
    ranked: ranking.Ranked,
    scores: Scores,
    groups: NDArray[np.intp],
    resamples: int,
    seed: int,
) -> dict[str, Figure]:
    """Return the figures whose intervals come from resampling patients."""
    truth = ranked.truth

    def of_tallies(figure: Callable[[ranking.Tallies], float | None]) -> Statistic:
        return lambda weights: figure(ranked.tallies(weights))

    def of_counts(figure: Callable[[Confusion], float | None]) -> Statistic:
        return lambda weights: figure(confusion(scores, truth, threshold, weights))

    statistics: dict[str, Statistic] = {
        "auc": of_tallies(ranking.auc),
        "average_precision": of_tallies(ranking.average_precision),
        "f1": of_counts(f1),
        "kappa": of_counts(cohens_kappa),
        "brier": partial(brier, scores, truth),
        "ece": partial(expected_calibration_error, scores, truth),
        "log_loss": partial(log_loss, scores, truth),
    }
    everyone = np.ones(len(scores))
    values = {name: statistic(everyone) for name, statistic in statistics.items()}
    intervals = bootstrap(statistics, groups, resamples=resamples, seed=seed)
    return {
        name: resampled_figure(value, intervals[name], _undefined(name, truth))
        for name, value in values.items()
    }


def _undefined(name: str, truth: Truth) -> str:
    """Return why a figure has no value, if it has none."""
    if not len(truth):
        return "no images"
    if name == "f1":
        return "nothing is positive and nothing was called so"
    if name == "kappa":
        return "one outcome only, in truth and in what was called"
    return _ONE_CLASS[bool(truth.all())]


def _presence(thresholds: Thresholds, scores: Scores, truth: Truth) -> dict[str, tuple[int, int]]:
    present = scores >= thresholds.high
    absent = ~present & (scores < thresholds.low)
    chosen = {
        Presence.PRESENT: present,
        Presence.UNDETERMINED: ~present & ~absent,
        Presence.ABSENT: absent,
    }
    return {
        str(name): (int((where & ~truth).sum()), int((where & truth).sum()))
        for name, where in chosen.items()
    }


def _table(
    thresholds: Thresholds, ranked: ranking.Ranked, scores: Scores
) -> tuple[ThresholdRow, ...]:
    """Return the rows of the threshold table, ascending; those with a name say which they are."""
    named: list[tuple[float | None, str]] = [
        (thresholds.low, "low"),
        (thresholds.high, "high"),
        (ranking.youden_threshold(ranked), "highest sensitivity + specificity"),
        (ranking.threshold_for_sensitivity(ranked, _SENSITIVE), f"sensitivity {_SENSITIVE:g}"),
        (ranking.threshold_for_specificity(ranked, _SPECIFIC), f"specificity {_SPECIFIC:g}"),
    ]
    rows: dict[float, list[str]] = {step: [] for step in _GRID}
    for threshold, name in named:
        if threshold is not None:
            rows.setdefault(threshold, []).append(name)
    return tuple(
        ThresholdRow(threshold, tuple(rows[threshold]), confusion(scores, ranked.truth, threshold))
        for threshold in sorted(rows)
    )


def majority_accuracy(counts: Confusion) -> float | None:
    """Return the accuracy of always saying what is more frequent; None if there are no images."""
    if not counts.total:
        return None
    return max(counts.tp + counts.fn, counts.tn + counts.fp) / counts.total


def mean_figure(figures: Sequence[Figure], what: str) -> Figure:
    """Return the plain mean of figures that have a value, without an interval."""
    known = [figure.value for figure in figures if figure.value is not None]
    if not known:
        return Figure(None, reason=f"no label has {what}")
    return Figure(float(np.mean(known)), reason="a mean of labels has no interval here")
