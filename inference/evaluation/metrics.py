"""Figures of a decision at a threshold: pure functions of the four counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]
# How often each image counts; all ones unless patients are resampled.
Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many images of each outcome were called what.

    Attributes
    ----------
    tp, fp, tn, fn : float
        True and false positives and negatives; whole numbers unless images are weighted.
    """

    tp: float
    fp: float
    tn: float
    fn: float

    @property
    def total(self) -> float:
        """All images."""
        return self.tp + self.fp + self.tn + self.fn


def confusion(
    scores: Scores, truth: Truth, threshold: float, weights: Weights | None = None
) -> Confusion:
    """Count the outcomes of calling positive what scores `threshold` or more.

    Parameters
    ----------
    scores : ndarray, (n,)
    truth : ndarray of bool, (n,)
    threshold : float
    weights : ndarray, (n,), optional
        How often each image counts.
    """
    called = scores >= threshold
    weight = np.ones(len(scores)) if weights is None else weights
    return Confusion(
        tp=float(weight[called & truth].sum()),
        fp=float(weight[called & ~truth].sum()),
        tn=float(weight[~called & ~truth].sum()),
        fn=float(weight[~called & truth].sum()),
    )


# Name, the outcomes that count, the outcomes that they are a share of, and what a share of nothing
# is for want of.
PROPORTIONS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], str]] = MappingProxyType(
    {
        "accuracy": (("tp", "tn"), ("tp", "fp", "tn", "fn"), "no images"),
        "sensitivity": (("tp",), ("tp", "fn"), "no positive images"),
        "specificity": (("tn",), ("tn", "fp"), "no negative images"),
        "ppv": (("tp",), ("tp", "fp"), "nothing was called positive"),
        "npv": (("tn",), ("tn", "fn"), "nothing was called negative"),
    }
)


def proportion(name: str, counts: Confusion) -> float | None:
    """Return one of `PROPORTIONS`; None where it is a share of nothing."""
    counted, of, _ = PROPORTIONS[name]
    whole = sum(getattr(counts, outcome) for outcome in of)
    if whole == 0:
        return None
    return float(sum(getattr(counts, outcome) for outcome in counted) / whole)


def f1(counts: Confusion) -> float | None:
    """Return the harmonic mean of PPV and sensitivity.

    Returns
    -------
    float or None
        None where nothing is positive and nothing was called so; 0 where there is no true
        positive but something to find or something called.
    """
    whole = 2 * counts.tp + counts.fp + counts.fn
    return 2 * counts.tp / whole if whole else None


def cohens_kappa(counts: Confusion) -> float | None:
    """Return the agreement with the truth beyond what chance gives, -1 to 1.

    Returns
    -------
    float or None
        None where both are of one kind throughout: chance alone agrees always.
    """
    n = counts.total
    if n == 0:
        return None
    observed = (counts.tp + counts.tn) / n
    called, there = (counts.tp + counts.fp) / n, (counts.tp + counts.fn) / n
    expected = called * there + (1 - called) * (1 - there)
    return (observed - expected) / (1 - expected) if expected < 1 else None
