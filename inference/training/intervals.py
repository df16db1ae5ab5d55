"""How sure a figure is: bootstrap over patients, whose images speak with one voice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..reading import Thresholds
from .evaluate import Scores, Truth

Interval = tuple[float, float]
DRAWS = 1000
_LOW, _HIGH = 2.5, 97.5
# Draws that are weighed at once.
_CHUNK = 16


def bootstrap(
    scores: Scores,
    truth: Truth,
    groups: NDArray[np.int64],
    thresholds: Thresholds,
    seed: int = 1,
    draws: int = DRAWS,
) -> dict[str, Interval | None]:
    """Return 95 % intervals of AUC, sensitivity and specificity by resampling groups.

    Parameters
    ----------
    scores : ndarray of float64, (n,)
    truth : ndarray of bool, (n,)
    groups : ndarray of int64, (n,)
        Patients: all images of one are drawn together.
    thresholds : Thresholds
        Sensitivity and specificity are at the upper one, as in `evaluate`.
    seed, draws : int

    Returns
    -------
    dict
        ``auc``, ``sensitivity``, ``specificity``: percentiles 2.5 and 97.5 of the draws in which
        the figure exists, None where that is less than half of them.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    count = int(codes.max()) + 1
    rng = np.random.default_rng([seed, 31])
    order = np.argsort(scores, kind="stable")
    ordered, positive = scores[order], truth[order]
    # Where equal scores begin: ties count half.
    begins = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > 0)
    high = ordered >= thresholds.high
    found: dict[str, list[NDArray[np.float64]]] = {"auc": [], "sensitivity": [], "specificity": []}
    for first in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - first)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=size)
        weights = drawn[:, codes[order]].astype(np.float64)
        yes, no = weights * positive, weights * ~positive
        with np.errstate(invalid="ignore", divide="ignore"):
            found["sensitivity"].append((yes * high).sum(axis=1) / yes.sum(axis=1))
            found["specificity"].append((no * ~high).sum(axis=1) / no.sum(axis=1))
            found["auc"].append(_aucs(yes, no, begins))
    return {name: _interval(np.concatenate(values)) for name, values in found.items()}


def _aucs(
    yes: NDArray[np.float64], no: NDArray[np.float64], begins: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the AUC of each row of weights over ascending scores."""
    yes, no = np.add.reduceat(yes, begins, axis=1), np.add.reduceat(no, begins, axis=1)
    below = np.cumsum(no, axis=1) - no
    won = (yes * (below + no / 2)).sum(axis=1)
    area: NDArray[np.float64] = won / (yes.sum(axis=1) * no.sum(axis=1))
    return area


def _interval(values: NDArray[np.float64]) -> Interval | None:
    known = values[np.isfinite(values)]
    if len(known) < len(values) / 2:
        return None
    low, high = np.percentile(known, [_LOW, _HIGH])
    return float(low), float(high)
