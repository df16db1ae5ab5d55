"""What a trial of learning rates showed, and what it suggests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Of the curve: what is still warming up.
_SKIPPED = 0.1


@dataclass(frozen=True, slots=True)
class Sweep:
    """What the trial showed.

    Attributes
    ----------
    rates, losses : ndarray of float64, (steps,)
        Learning rates that were tried, and the smoothed loss at each.
    steepest : float
        Where the loss falls fastest over the logarithm of the rate.
    minimum_over_ten : float
        A tenth of the rate at which the loss is lowest.
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    steepest: float
    minimum_over_ten: float


def suggest(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> Sweep:
    """Return what a curve suggests.

    Parameters
    ----------
    rates, losses : ndarray of float64, (steps,)
        Ascending, evenly spaced by their logarithm; what is no number at the end does not count.
    """
    finite = np.isfinite(losses)
    known = int(finite.argmin()) if not finite.all() else len(losses)
    first = round(_SKIPPED * known)
    lowest = first + int(losses[first:known].argmin())
    falling = losses[first : lowest + 1]
    slope = np.gradient(falling) if len(falling) > 1 else np.zeros(1)
    return Sweep(
        rates=rates,
        losses=losses,
        steepest=float(rates[first + int(slope.argmin())]),
        minimum_over_ten=float(rates[lowest]) / 10,
    )
