"""Shares of decisions that are right, each with its Wilson interval over independent images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .figures import Figure
from .intervals import effective_trials, wilson
from .metrics import PROPORTIONS, Confusion, Scores, Truth, proportion


def share_figures(
    threshold: float, scores: Scores, truth: Truth, groups: NDArray[np.intp]
) -> dict[str, Figure]:
    """Return accuracy, sensitivity, specificity, PPV and NPV at a threshold.

    Their intervals say something at 0 and 1 too, where no resample would differ.

    Parameters
    ----------
    threshold : float
        Called positive is what scores so much or more.
    scores : ndarray, (n,)
    truth : ndarray of bool, (n,)
    groups : ndarray of int, (n,)
        Patient of each image: where patients have several, fewer images count; see
        `effective_trials`.

    Returns
    -------
    dict of str to Figure
        By the names of `PROPORTIONS`.
    """
    called = scores >= threshold
    outcome = {
        "tp": called & truth, "fp": called & ~truth,
        "tn": ~called & ~truth, "fn": ~called & truth,
    }  # fmt: skip
    counts = Confusion(**{name: float(where.sum()) for name, where in outcome.items()})
    figures = {}
    for name, (counted, of, want) in PROPORTIONS.items():
        value = proportion(name, counts)
        if value is None:
            figures[name] = Figure(None, reason=want)
            continue
        trials = np.logical_or.reduce([outcome[one] for one in of])
        successes = np.logical_or.reduce([outcome[one] for one in counted])
        n = effective_trials(successes, trials, groups)
        figures[name] = Figure(value, *wilson(value * n, n), method="wilson")
    return figures
