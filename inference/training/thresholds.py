"""Where Absent ends and Present begins, chosen on data that no figure is measured on."""

from __future__ import annotations

from math import floor, log10

import numpy as np

from ..evaluation.metrics import Scores, Truth
from ..reading import Thresholds


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
