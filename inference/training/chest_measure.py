"""What a reader of chests is measured by on real films."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..evaluation import ranking
from ..evaluation.intervals import Statistic, over, patient_numbers, resampled
from ..evaluation.metrics import Weights

Scores = NDArray[np.float64]
_RESAMPLED = 2000


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well scores rank films with a finding above others, patients of each fold apart.

    Attributes
    ----------
    auc : float
        Over all pairs of a film with and one without the finding within a fold.
    low, high : float
        95 % interval of the bootstrap over patients.
    patients, positives, negatives : int
        Patients with the finding; films with it; films without.
    """

    auc: float
    low: float
    high: float
    patients: int
    positives: int
    negatives: int


def rank(
    scores: Scores,
    truth: NDArray[np.bool_],
    groups: Sequence[str],
    folds: NDArray[np.int64],
    seed: int = 0,
) -> Ranking:
    """Return the AUC of films by fold, with a bootstrap over patients.

    Films of one patient are drawn together, and so that every resample has patients with and
    without the finding, both kinds are drawn by themselves, in each fold.

    Parameters
    ----------
    scores : ndarray of float64, (n,)
    truth : ndarray of bool, (n,)
    groups : sequence of str
        Patient of each film.
    folds : ndarray of int64, (n,)
        Which network read it: scores of different networks are not compared.
    """
    within = _within(scores, truth, folds)
    found = over({"auc": within}, _resamples(truth, groups, folds, seed))["auc"]
    low, high = found or (float("nan"), float("nan"))
    named = np.asarray(groups)
    return Ranking(
        auc=_plainly(within, truth),
        low=low,
        high=high,
        patients=len(np.unique(named[truth])),
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
    )


def gain(
    scores: Scores,
    others: Scores,
    truth: NDArray[np.bool_],
    groups: Sequence[str],
    folds: NDArray[np.int64],
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return how much the AUC of `scores` exceeds that of `others`, and its 95 % interval.

    Both are taken from the same resamples of patients; parameters as of `rank`.
    """
    ours, theirs = _within(scores, truth, folds), _within(others, truth, folds)

    def excess(weights: Weights) -> float | None:
        more, less = ours(weights), theirs(weights)
        return None if more is None or less is None else more - less

    found = over({"excess": excess}, _resamples(truth, groups, folds, seed))["excess"]
    return _plainly(excess, truth), *(found or (float("nan"), float("nan")))


def ranked_below(
    scores: Scores, truth: NDArray[np.bool_], groups: Sequence[str], folds: NDArray[np.int64]
) -> dict[str, tuple[int, float]]:
    """Return for each patient with the finding the films with it, and their AUC in the fold."""
    named, found = np.asarray(groups), {}
    for patient in np.unique(named[truth]):
        theirs = truth & (named == patient)
        others = ~truth & (folds == folds[theirs][0])
        both = np.concatenate([scores[theirs], scores[others]])
        count = int(theirs.sum())
        found[str(patient)] = count, ranking.auc_of(both, np.arange(len(both)) < count) or 0.0
    return found


def _resamples(
    truth: NDArray[np.bool_], groups: Sequence[str], folds: NDArray[np.int64], seed: int
) -> Iterator[Weights]:
    """Yield how often each film counts when patients are drawn: with it and without, by fold."""
    named = np.asarray(groups)
    strata = np.zeros(len(truth), dtype=np.intp)
    for number, fold in enumerate(np.unique(folds)):
        here = folds == fold
        sick = np.isin(named, named[here & truth])
        strata[here] = 2 * number + ~sick[here]
    rng = np.random.default_rng([seed, 41])
    yield from resampled(patient_numbers(groups), rng, _RESAMPLED, strata)


def _within(scores: Scores, truth: NDArray[np.bool_], folds: NDArray[np.int64]) -> Statistic:
    """Return what gives the AUC over the pairs within each fold, every pair alike."""
    parts = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    ranked = [(rows, ranking.rank(scores[rows], truth[rows])) for rows in parts]

    def area(weights: Weights) -> float | None:
        total = pairs = 0.0
        for rows, one in ranked:
            tallies = one.tallies(weights[rows])
            count = float(tallies.positive.sum() * tallies.negative.sum())
            if (found := ranking.auc(tallies)) is not None:
                total, pairs = total + count * found, pairs + count
        return total / pairs if pairs else None

    return area


def _plainly(statistic: Statistic, truth: NDArray[np.bool_]) -> float:
    """Return a statistic of all films, each once; not a number where it is undefined."""
    value = statistic(np.ones(len(truth)))
    return float("nan") if value is None else value
