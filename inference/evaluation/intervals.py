"""How sure a figure is: 95 % intervals of proportions and, by resampling patients, of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from .metrics import Weights
from .student import t_quantile

# The 97.5th percentile of the normal distribution.
_Z = 1.959963984540054
RESAMPLES = 1000
# Of a patient, of either outcome. By simulation: with none, intervals cover too little where most
# images are of few patients and a share is near 1; with a half they are needlessly wide.
_ADDED = 0.1
# An interval needs this share of the resamples to have a value.
_LEAST_DEFINED = 0.5

Statistic = Callable[[Weights], float | None]
Interval = tuple[float, float]


def wilson(successes: float, trials: float) -> Interval:
    """Return the Wilson score interval of a proportion (Wilson, JASA 1927), 95 %.

    Parameters
    ----------
    successes, trials : float
        0 <= `successes` <= `trials`, `trials` above 0; an effective number need not be whole.
    """
    share = successes / trials
    middle = share + _Z**2 / (2 * trials)
    reach = _Z * sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    whole = 1 + _Z**2 / trials
    # At the ends the exact value is 0 or 1, which rounding misses.
    low = 0.0 if successes == 0 else max(0.0, (middle - reach) / whole)
    high = 1.0 if successes == trials else min(1.0, (middle + reach) / whole)
    return low, high


def effective_trials(
    successes: NDArray[np.bool_], trials: NDArray[np.bool_], groups: NDArray[np.intp]
) -> float:
    """Return how many independent images a proportion rests on when patients have several.

    Images of one patient are alike, and counting each makes an interval too narrow. How much the
    proportion varies when one patient is left out (jackknife) says how many independent images
    would vary as much; never more than there are. Few patients say little of that, so there are
    fewer still by the square of z over t (Korn and Graubard, Survey Methodology 1998). Where all
    images have one outcome nothing varies, and patients are counted; where nearly all have, a tenth
    of a patient of either outcome keeps the variation from being taken for none.

    A patient of many images among others of few counts for more of the proportion: patients are
    counted as images squared, over the sum of the squares of each patient's (Kish, 1965).

    Parameters
    ----------
    successes, trials : ndarray of bool, (n,)
        Which images count, of which.
    groups : ndarray of int, (n,)
        Patient of each image, from 0.

    Returns
    -------
    float
        Between 1 and the number of trials; 0 if there are none.
    """
    count = int(trials.sum())
    if not count:
        return 0.0
    of, found = np.unique(groups[trials], return_inverse=True)[1], successes[trials]
    sizes = np.bincount(of)
    patients, hits = len(sizes), int(found.sum())
    if patients == count:
        return float(count)
    alike = count**2 / float((sizes**2).sum())
    if patients < 2 or hits in (0, count):
        return alike
    independent = min(float(count), count / _design_effect(found, of, sizes))
    # Of fewer than two there is no telling: one degree of freedom is the least.
    sure = (_Z / t_quantile(0.975, max(1.0, alike - 1))) ** 2
    return max(alike, independent * sure)


def _design_effect(
    found: NDArray[np.bool_], of: NDArray[np.intp], sizes: NDArray[np.intp]
) -> float:
    """Return how many times more a proportion varies than one of independent images would.

    Parameters
    ----------
    found : ndarray of bool, (images,)
    of : ndarray of int, (images,)
        Patient of each, from 0.
    sizes : ndarray of int, (patients,)
        Images of each; two patients or more.
    """
    count, patients = len(found), len(sizes)
    # As many images as the patient of an image has on average.
    usual = float((sizes**2).sum()) / count
    whole = count + 2 * _ADDED * usual
    share = (int(found.sum()) + _ADDED * usual) / whole
    without = np.bincount(of, found - share) * count / (count - sizes)
    variance = (patients - 1) / patients * float((without**2).sum())
    variance += _ADDED * usual**2 * (share**2 + (1 - share) ** 2)
    return variance / (share * (1 - share) * whole)


def patient_numbers(patients: Sequence[str]) -> NDArray[np.intp]:
    """Return a number from 0 for each patient, (n,)."""
    numbers = np.unique(np.array(patients, dtype=np.str_), return_inverse=True)[1]
    return numbers.astype(np.intp)


def bootstrap(
    statistics: Mapping[str, Statistic],
    groups: NDArray[np.intp],
    *,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> dict[str, Interval | None]:
    """Return percentile intervals, 95 %, from resampling patients with replacement.

    Parameters
    ----------
    statistics : mapping of str to callable
        What gives a figure for the weights, (n,), of the images; None where it is undefined.
    groups : ndarray of int, (n,)
        Patient of each image.

    Returns
    -------
    dict of str to (float, float) or None
        See `over`; None for all if there are fewer than two patients.
    """
    return over(statistics, resampled(groups, np.random.default_rng([seed, 17]), resamples))


def over(
    statistics: Mapping[str, Statistic], resamples: Iterable[Weights]
) -> dict[str, Interval | None]:
    """Return percentile intervals, 95 %, over resamples, of which all statistics see the same.

    Parameters
    ----------
    statistics : mapping of str to callable
        What gives a figure for the weights, (n,), of the images; None where it is undefined.
    resamples : iterable of ndarray, (n,)
        How often each image counts; see `resampled`.

    Returns
    -------
    dict of str to (float, float) or None
        None for a statistic that is undefined in more than half of the resamples.
    """
    drawn: dict[str, list[float]] = {name: [] for name in statistics}
    count = 0
    for weights in resamples:
        count += 1
        for name, statistic in statistics.items():
            if (value := statistic(weights)) is not None:
                drawn[name].append(value)
    return {name: _percentiles(values, count) for name, values in drawn.items()}


def resampled(
    groups: NDArray[np.intp],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    strata: NDArray[np.intp] | None = None,
) -> Iterator[Weights]:
    """Yield how often each image counts, (n,), when patients are drawn with replacement.

    All images of a patient are drawn together.

    Parameters
    ----------
    groups : ndarray of int, (n,)
        Patient of each image.
    strata : ndarray of int, (n,), optional
        Kinds of patients of which each resample has as many as there are, drawn in this order.

    Yields
    ------
    ndarray of float64, (n,)
        None at all where no stratum has two patients: nothing would vary.
    """
    kinds = np.zeros(len(groups), dtype=np.intp) if strata is None else strata
    parts = []
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        parts.append((rows, np.unique(groups[rows], return_inverse=True)[1]))
    counts = [int(patient.max()) + 1 for _, patient in parts]
    if max(counts, default=0) < 2:
        return
    for _ in range(resamples):
        weights = np.empty(len(groups))
        for (rows, patient), count in zip(parts, counts, strict=True):
            times = np.bincount(rng.integers(0, count, count), minlength=count)
            weights[rows] = times[patient]
        yield weights


def _percentiles(values: Sequence[float], resamples: int) -> Interval | None:
    if len(values) < max(2, _LEAST_DEFINED * resamples):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
