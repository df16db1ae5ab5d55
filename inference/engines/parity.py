"""How far two engines are from each other, in probabilities. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..activations import activated
from ..bundle import Bundle
from .engine import Engine, RawOutputs

# Probabilities may differ by so much; measured are differences of 1e-6.
DRIFT = 1e-4


def drift_of(bundle: Bundle, plain: Engine, other: Engine, *inputs: NDArray[np.float32]) -> float:
    """Return the largest difference of a probability, or of a class map's share of its largest.

    Infinite where the outputs differ in their shapes, and no number where one of them is none.

    Parameters
    ----------
    bundle : Bundle
    plain, other : Engine
    *inputs : ndarray of float32, (rows, channels, size, size)
        One batch at least.

    Raises
    ------
    EngineRunError
        If one of the engines cannot carry the network out.
    """
    return _worst(drift_between(bundle, plain.run(rows), other.run(rows)) for rows in inputs)


def drift_between(bundle: Bundle, told: RawOutputs, found: RawOutputs) -> float:
    """Return the same of what two engines gave."""
    if [one.shape for one in told.tensors] != [one.shape for one in found.tensors]:
        return float("inf")
    pairs = [
        (activated(one, bundle.activation), activated(two, bundle.activation))
        for one, two in zip(told.tensors, found.tensors, strict=True)
    ]
    if told.class_maps is not None and found.class_maps is not None:
        largest = max(float(np.abs(told.class_maps).max()), 1e-6)
        pairs.append((told.class_maps / largest, found.class_maps / largest))
    return _worst(np.abs(one - two).max() for one, two in pairs)


def _worst(drifts: Iterable[float]) -> float:
    """Return the largest of several, no number if one is none: Python's own `max` passes it by."""
    return float(np.max(list(drifts)))
