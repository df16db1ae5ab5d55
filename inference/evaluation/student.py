"""Quantiles of Student's t distribution (Student, Biometrika 1908), without scipy."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

# So many steps of the integral, over so many standard deviations where it is narrow.
_STEPS, _REACH = 4000, 40.0


def t_quantile(share: float, freedom: float) -> float:
    """Return what a t distribution exceeds with probability 1 - `share`.

    Parameters
    ----------
    share : float
        From 0.5 to below 1; up to 0.975 the quantile is exact to four digits.
    freedom : float
        Degrees of freedom, 1 or more; need not be whole.
    """
    # With t = sqrt(freedom) tan(angle) the density is cos(angle) ** (freedom - 1), of finite reach.
    # Steps narrow towards its end, where it falls steeply for few degrees.
    steps = 1.0 - np.linspace(1.0, 0.0, _STEPS + 1) ** 2
    angles = min(pi / 2, _REACH / sqrt(freedom)) * steps
    density = np.cos(angles).clip(0.0) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) * np.diff(angles))])
    angle = np.interp(share - 0.5, mass / (2 * mass[-1]), angles)
    return sqrt(freedom) * float(np.tan(angle))
