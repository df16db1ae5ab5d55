"""Maps of evidence: what each place of the input adds to an output. Light: no torch.

A network that ends in a mean over feature maps and a linear layer tells the map with the number:
the layer's weights, applied at each place before the mean, are the class activation map. Gradients
give the same (`saliency`) but need another pass, and back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .bundle_section import Activation


def share_of(
    outputs: NDArray[np.float32], output: int, activation: Activation
) -> NDArray[np.float32]:
    """Return the derivative of a label's log-odds with respect to all outputs, (outputs,).

    Parameters
    ----------
    outputs : ndarray of float32, (outputs,)
        Of one row, before the activation.
    output : int
        Of the label.
    activation : {"sigmoid", "softmax"}
        Under softmax what speaks for the others speaks against this one.
    """
    share = np.zeros_like(outputs)
    if activation == "softmax" and len(outputs) > 1:
        others = outputs.copy()
        others[output] = -np.inf
        weights = np.exp(others - others.max())
        share = -weights / weights.sum()
    share[output] = 1.0
    return share


def log_odds(
    outputs: NDArray[np.float32], output: int, activation: Activation
) -> NDArray[np.float64]:
    """Return the log-odds of a label in each row, (rows,).

    Parameters
    ----------
    outputs : ndarray of float32, (rows, outputs)
        Before the activation.
    output : int
        Of the label.
    activation : {"sigmoid", "softmax"}
    """
    told = outputs.astype(np.float64)
    if activation == "sigmoid" or told.shape[1] == 1:
        return told[:, output]
    others = np.delete(told, output, axis=1)
    highest = others.max(axis=1, keepdims=True)
    spoken = np.log(np.exp(others - highest).sum(axis=1)) + highest[:, 0]
    return np.asarray(told[:, output] - spoken)


def evidence_for(
    class_maps: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return what each place adds to the log-odds of a label, by the class maps of a row.

    Parameters
    ----------
    class_maps : ndarray of float32, (outputs, h, w)
        As of `RawOutputs`: times the count of places.
    share : ndarray of float32, (outputs,)
        Of `share_of`.

    Returns
    -------
    ndarray of float32, (h, w)
    """
    places = class_maps.shape[-2] * class_maps.shape[-1]
    return np.asarray(np.tensordot(share, class_maps, axes=1) / places, dtype=np.float32)


def enlarged(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return maps, (..., h, w), at another size: bilinear, pixels taken as areas.

    Outside the centres of the outermost pixels their values go on, as torch's interpolation has it
    without ``align_corners``; where the size is smaller nothing is averaged.
    """
    if maps.shape[-2:] == tuple(size):
        return maps
    down, across = _weights(maps.shape[-2], size[0]), _weights(maps.shape[-1], size[1])
    return np.asarray(down @ maps @ across.T, dtype=np.float32)


def _weights(known: int, wanted: int) -> NDArray[np.float32]:
    """Return how much each known line counts in each wanted one, (wanted, known)."""
    at = ((np.arange(wanted) + 0.5) * (known / wanted) - 0.5).clip(0.0, known - 1)
    before = np.floor(at).astype(np.intp)
    after = np.minimum(before + 1, known - 1)
    weights = np.zeros((wanted, known), dtype=np.float32)
    lines = np.arange(wanted)
    np.add.at(weights, (lines, before), 1.0 - (at - before))
    np.add.at(weights, (lines, after), at - before)
    return weights
