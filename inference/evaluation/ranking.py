"""How well scores put the positive above the negative: ROC, precision and recall.

Everything comes from two tallies, the positive and the negative at each distinct score from the
highest down, so that a resample of patients is a new weight for each image and not a new sort.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .metrics import Scores, Truth, Weights

Curve = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Scores in order.

    Attributes
    ----------
    thresholds : ndarray, (k,)
        The distinct scores, the highest first.
    place : ndarray of int, (n,)
        Which of these each image has.
    truth : ndarray of bool, (n,)
    """

    thresholds: Curve
    place: NDArray[np.intp]
    truth: Truth

    def tallies(self, weights: Weights | None = None) -> Tallies:
        """Count the positive and the negative at each threshold, (k,) each."""
        weight = np.ones(len(self.place)) if weights is None else weights
        count = len(self.thresholds)
        everyone = np.bincount(self.place, weight, minlength=count).astype(np.float64)
        positive = np.bincount(self.place, weight * self.truth, minlength=count)
        return Tallies(positive.astype(np.float64), everyone - positive)


@dataclass(frozen=True, slots=True, eq=False)
class Tallies:
    """Positive and negative images at each threshold, from the highest down; (k,) each."""

    positive: Curve
    negative: Curve


def rank(scores: Scores, truth: Truth) -> Ranked:
    """Put scores, (n,), in order; ties share a place."""
    values, place = np.unique(-scores, return_inverse=True)
    return Ranked(-values, place.astype(np.intp), truth)


def auc(tallies: Tallies) -> float | None:
    """Return how often a positive scores above a negative, ties counting half.

    Returns
    -------
    float or None
        0 to 1; None unless both outcomes occur.
    """
    positives, negatives = float(tallies.positive.sum()), float(tallies.negative.sum())
    if not positives or not negatives:
        return None
    above = np.cumsum(tallies.positive) - tallies.positive / 2
    return float((above * tallies.negative).sum() / (positives * negatives))


def auc_of(scores: Scores, truth: Truth) -> float | None:
    """Return the AUC of scores, (n,); see `auc`."""
    return auc(rank(scores, truth).tallies())


def average_precision(tallies: Tallies) -> float | None:
    """Return the mean precision over the positive, each at its own score; no interpolation.

    Returns
    -------
    float or None
        0 to 1, the prevalence for scores that say nothing; None without a positive.
    """
    positives = float(tallies.positive.sum())
    if not positives:
        return None
    found, called = np.cumsum(tallies.positive), np.cumsum(tallies.positive + tallies.negative)
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    return float((precision * tallies.positive).sum() / positives)


def roc_curve(tallies: Tallies) -> tuple[Curve, Curve] | None:
    """Return false and true positive rates from (0, 0) to (1, 1), (k + 1,) each.

    None unless both outcomes occur.
    """
    positives, negatives = float(tallies.positive.sum()), float(tallies.negative.sum())
    if not positives or not negatives:
        return None
    return (
        np.concatenate([[0.0], np.cumsum(tallies.negative) / negatives]),
        np.concatenate([[0.0], np.cumsum(tallies.positive) / positives]),
    )


def precision_recall_curve(tallies: Tallies) -> tuple[Curve, Curve] | None:
    """Return recall and precision at each threshold from the highest down, (k,) each.

    None without a positive.
    """
    positives = float(tallies.positive.sum())
    if not positives:
        return None
    found, called = np.cumsum(tallies.positive), np.cumsum(tallies.positive + tallies.negative)
    precision = np.divide(found, called, out=np.ones_like(found), where=called > 0)
    return found / positives, precision


def youden_threshold(ranked: Ranked) -> float | None:
    """Return the score from which on calling positive makes sensitivity + specificity highest.

    The highest of several; None unless both outcomes occur.
    """
    curve = roc_curve(ranked.tallies())
    if curve is None:
        return None
    # Equal sums must not differ in their last bit.
    return float(ranked.thresholds[int(np.argmax((curve[1] - curve[0])[1:].round(12)))])


def threshold_for_sensitivity(ranked: Ranked, least: float) -> float | None:
    """Return the highest threshold at which the sensitivity is `least` or more; None if none."""
    curve = roc_curve(ranked.tallies())
    if curve is None:
        return None
    # A share that is reached exactly must not fail by the last bit of a sum.
    return float(ranked.thresholds[int(np.argmax(curve[1][1:] >= least - 1e-12))])


def threshold_for_specificity(ranked: Ranked, least: float) -> float | None:
    """Return the lowest score at which the specificity is `least` or more; None if none."""
    curve = roc_curve(ranked.tallies())
    if curve is None:
        return None
    reached = np.flatnonzero(1.0 - curve[0][1:] >= least - 1e-12)
    return float(ranked.thresholds[reached[-1]]) if len(reached) else None
