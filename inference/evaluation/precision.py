"""What a lower precision does to the probabilities of a model, on images of a site's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..engine_spec import EngineSpec, Precision
from ..errors import InferenceError
from ..reading import Label
from .images import ImageResult

# Reads files with a bundle, in their order.
Read = Callable[[Bundle], Iterable[ImageResult]]


@dataclass(frozen=True, slots=True)
class LabelDrift:
    """How far a lower precision moves the probabilities of a label.

    Attributes
    ----------
    label : str
    largest, mean : float
        Difference of a probability, 0 to 1.
    crossed : int
        Images that are on the other side of a threshold.
    """

    label: str
    largest: float
    mean: float
    crossed: int


@dataclass(frozen=True, slots=True)
class PrecisionDrift:
    """What was found.

    Attributes
    ----------
    precision : {"bfloat16", "float16"}
    images : int
        That were read both ways.
    unread : tuple of Path
        That were not, one way or the other.
    labels : tuple of LabelDrift
    """

    precision: Precision
    images: int
    unread: tuple[Path, ...]
    labels: tuple[LabelDrift, ...]


def precision_drift(bundle: Bundle, precision: Precision, read: Read) -> PrecisionDrift:
    """Read images in float32 and in a lower precision, and compare.

    Parameters
    ----------
    bundle : Bundle
    precision : {"bfloat16", "float16"}
    read : callable
        Reads the images with a bundle; it is asked twice.

    Raises
    ------
    InferenceError
        If no image was read both ways.
    """
    plain = list(read(_with(bundle, "float32")))
    lowered = list(read(_with(bundle, precision)))
    both: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    unread: list[Path] = []
    for one, other in zip(plain, lowered, strict=True):
        if one.probabilities is None or other.probabilities is None:
            unread.append(one.path)
        else:
            both.append((one.probabilities, other.probabilities))
    if not both:
        raise InferenceError("none of the images was read, so there is nothing to compare")
    told, found = (np.stack(side) for side in zip(*both, strict=True))
    each = enumerate(bundle.labels)
    drifts = tuple(_drift(label, told[:, at], found[:, at]) for at, label in each)
    return PrecisionDrift(precision, len(both), tuple(unread), drifts)


def _with(bundle: Bundle, precision: Precision) -> Bundle:
    return replace(bundle, engine=EngineSpec("auto", precision))


def _drift(label: Label, told: NDArray[np.float64], found: NDArray[np.float64]) -> LabelDrift:
    moved = np.abs(found - told)
    limits = (label.thresholds.low, label.thresholds.high)
    crossed = np.any([(told >= limit) != (found >= limit) for limit in limits], axis=0)
    return LabelDrift(label.name, float(moved.max()), float(moved.mean()), int(crossed.sum()))
