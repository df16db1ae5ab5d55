"""Whether a probability means what it says: of those called 0.3, three in ten are positive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import wilson
from .metrics import Scores, Truth, Weights

BINS = 10


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The images with a probability in one tenth of the scale.

    Attributes
    ----------
    low, high : float
        The probabilities above `low` up to `high`; 0 belongs to the first.
    count : int
    predicted : float
        Mean probability.
    observed, observed_low, observed_high : float
        Share that is positive, with its Wilson interval.
    """

    low: float
    high: float
    count: int
    predicted: float
    observed: float
    observed_low: float
    observed_high: float


def reliability(scores: Scores, truth: Truth, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Compare probability and frequency, bin by bin; bins without images are left out.

    Parameters
    ----------
    scores : ndarray, (n,)
        0 to 1.
    truth : ndarray of bool, (n,)
    """
    place = _bin_of(scores, bins)
    found = []
    for index in range(bins):
        chosen = place == index
        count, positive = int(chosen.sum()), int(truth[chosen].sum())
        if not count:
            continue
        low, high = wilson(positive, count)
        found.append(
            ReliabilityBin(
                index / bins, (index + 1) / bins, count, float(scores[chosen].mean()),
                positive / count, low, high,
            )
        )  # fmt: skip
    return tuple(found)


def expected_calibration_error(
    scores: Scores, truth: Truth, weights: Weights | None = None, bins: int = BINS
) -> float | None:
    """Return the mean distance of probability and frequency over equal bins; None if empty."""
    weight = np.ones(len(scores)) if weights is None else weights
    total = float(weight.sum())
    if not total:
        return None
    excess = np.bincount(_bin_of(scores, bins), weight * (scores - truth), minlength=bins)
    return float(np.abs(excess).sum() / total)


def brier(scores: Scores, truth: Truth, weights: Weights | None = None) -> float | None:
    """Return the mean squared distance of probability and outcome, 0 to 1; None if empty."""
    weight = np.ones(len(scores)) if weights is None else weights
    total = float(weight.sum())
    return float((weight * (scores - truth) ** 2).sum() / total) if total else None


def _bin_of(scores: Scores, bins: int) -> NDArray[np.intp]:
    edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    return np.searchsorted(edges, scores, side="left").astype(np.intp)
