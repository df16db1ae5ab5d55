"""What a reader of chests is measured by on real films."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .evaluate import auc

Scores = NDArray[np.float64]
_RESAMPLED = 2000
_TAILS = (2.5, 97.5)


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
    drawn = [_within(scores, truth, rows) for rows in _resamples(truth, groups, folds, seed)]
    low, high = np.percentile(drawn, _TAILS)
    named = np.asarray(groups)
    return Ranking(
        auc=_within(scores, truth, _each(folds)),
        low=float(low),
        high=float(high),
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
    each = _each(folds)
    drawn = [
        _within(scores, truth, rows) - _within(others, truth, rows)
        for rows in _resamples(truth, groups, folds, seed)
    ]
    low, high = np.percentile(drawn, _TAILS)
    excess = _within(scores, truth, each) - _within(others, truth, each)
    return excess, float(low), float(high)


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
        found[str(patient)] = count, auc(both, np.arange(len(both)) < count) or 0.0
    return found


def _each(folds: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [np.nonzero(folds == fold)[0] for fold in np.unique(folds)]


def _resamples(
    truth: NDArray[np.bool_], groups: Sequence[str], folds: NDArray[np.int64], seed: int
) -> Iterator[list[NDArray[np.int64]]]:
    """Yield the rows of films of resampled patients, by fold."""
    rng = np.random.default_rng([seed, 41])
    named = np.asarray(groups)
    strata = []
    for fold in np.unique(folds):
        here = folds == fold
        sick = np.unique(named[here & truth])
        well = np.setdiff1d(np.unique(named[here]), sick)
        strata.append([_films_of(named, here, patients) for patients in (sick, well)])
    for _ in range(_RESAMPLED):
        yield [np.concatenate([_resample(kind, rng) for kind in kinds]) for kinds in strata]


def share_with_interval(hits: int, count: int) -> tuple[float, float, float]:
    """Return a share with its 95 % interval after Wilson."""
    if count == 0:
        return float("nan"), float("nan"), float("nan")
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    return share, float(middle - half), float(middle + half)


def _films_of(
    named: NDArray[np.str_], here: NDArray[np.bool_], patients: NDArray[np.str_]
) -> list[NDArray[np.int64]]:
    return [np.nonzero(here & (named == patient))[0] for patient in patients]


def _resample(films: list[NDArray[np.int64]], rng: np.random.Generator) -> NDArray[np.int64]:
    if not films:
        return np.empty(0, np.int64)
    return np.concatenate([films[i] for i in rng.integers(len(films), size=len(films))])


def _within(scores: Scores, truth: NDArray[np.bool_], folds: Sequence[NDArray[np.int64]]) -> float:
    """Return the AUC over the pairs within each fold, every pair alike."""
    total, pairs = 0.0, 0
    for rows in folds:
        positives = int(truth[rows].sum())
        count = positives * (len(rows) - positives)
        if (found := auc(scores[rows], truth[rows])) is not None:
            total, pairs = total + count * found, pairs + count
    return total / pairs if pairs else float("nan")
