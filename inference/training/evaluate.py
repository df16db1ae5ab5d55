"""How good a reader is: ranking, sensitivity, specificity, and thresholds chosen from them."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log10

import numpy as np
from numpy.typing import NDArray

from ..reading import Thresholds

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of one label on one set of images or series.

    Attributes
    ----------
    auc : float or None
        Area under the ROC curve; None unless both outcomes occur.
    sensitivity, specificity : float or None
        Present among the positive, not Present among the negative, at the upper threshold.
    """

    positives: int
    negatives: int
    auc: float | None
    sensitivity: float | None
    specificity: float | None


def auc(scores: Scores, truth: Truth) -> float | None:
    """Return how often a positive scores above a negative, ties counting half.

    Parameters
    ----------
    scores : numpy.ndarray, shape (n,)
    truth : numpy.ndarray of bool, shape (n,)

    Returns
    -------
    float or None
        0 to 1; None unless both outcomes occur.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    excess = ranks[inverse][truth].sum() - positives * (positives + 1) / 2
    return float(excess / (positives * negatives))


def sensitivity(scores: Scores, truth: Truth, threshold: float) -> float | None:
    """Return the share of the positive that score `threshold` or more; None if there are none."""
    return float((scores[truth] >= threshold).mean()) if truth.any() else None


def specificity(scores: Scores, truth: Truth, threshold: float) -> float | None:
    """Return the share of the negative that score less than `threshold`; None if none."""
    return float((scores[~truth] < threshold).mean()) if (~truth).any() else None


def evaluate(scores: Scores, truth: Truth, thresholds: Thresholds) -> Evaluation:
    """Return the figures of one label; `scores` and `truth` of shape (n,)."""
    return Evaluation(
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
        auc=auc(scores, truth),
        sensitivity=sensitivity(scores, truth, thresholds.high),
        specificity=specificity(scores, truth, thresholds.high),
    )


def choose_thresholds(
    scores: Scores, truth: Truth, missed: float = 0.05, alarms: float = 0.02
) -> Thresholds:
    """Choose where Absent ends and Present begins.

    About a share `missed` of the positive falls below `low`, and `alarms` of the negative reaches
    `high`. Where these do not overlap, the thresholds divide the gap between them in three.

    Parameters
    ----------
    scores : numpy.ndarray, shape (n,)
        0 to 1.
    truth : numpy.ndarray of bool, shape (n,)

    Returns
    -------
    Thresholds
        0.5 for both unless both outcomes occur.
    """
    if not truth.any() or truth.all():
        return Thresholds(0.5, 0.5)
    lower = float(np.quantile(scores[truth], missed))
    upper = float(np.quantile(scores[~truth], 1 - alarms))
    if lower > upper:
        third = (lower - upper) / 3
        exact = upper + third, lower - third
        low, high = map(_rounded, exact)
        # A gap may be narrower than what rounding moves a threshold by.
        return Thresholds(low, high) if upper < low <= high <= lower else Thresholds(*exact)
    # Just above; near 0 and 1 by less, or no positive would reach it.
    step = min(1e-3, upper / 10 or 1e-3, (1 - upper) / 10)
    return Thresholds(_rounded(lower), _rounded(upper + step))


def _rounded(probability: float) -> float:
    """Round to three decimals, near 0 and 1 to three digits of the distance from there."""
    near = min(probability, 1 - probability)
    digits = 3 if near >= 0.01 or near <= 0 else 2 - floor(log10(near))
    return min(1.0, max(0.0, round(probability, digits)))
