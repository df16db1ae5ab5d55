"""What makes probabilities of a network's outputs. Light: no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .bundle_section import Activation


def activated(outputs: NDArray[np.float32], activation: Activation) -> NDArray[np.float32]:
    """Return the probabilities of outputs, (rows, outputs, ...), of the same shape.

    Parameters
    ----------
    activation : {"sigmoid", "softmax"}
        Each output by itself, or all outputs of a row, at each place, together.
    """
    outputs = np.asarray(outputs, dtype=np.float32)
    return _sigmoid(outputs) if activation == "sigmoid" else _softmax(outputs)


def _sigmoid(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    # In place, for maps are large. What overflows is infinite, and its inverse 0, as it should be.
    with np.errstate(over="ignore"):
        made = np.exp(np.negative(outputs))
    made += 1.0
    return np.asarray(np.reciprocal(made, out=made), dtype=np.float32)


def _softmax(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore"):  # infinite outputs: no numbers, which the caller tells
        made = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        made /= made.sum(axis=1, keepdims=True)
    return np.asarray(made, dtype=np.float32)
