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

# Maps with fewer places to a side are coarse: they point beside a finding.
FINE = 12


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


def evidence_for(
    class_maps: NDArray[np.float32], share: NDArray[np.float32], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Return where the evidence for a label lies, by the class maps of a row.

    Parameters
    ----------
    class_maps : ndarray of float32, (outputs, h, w)
    share : ndarray of float32, (outputs,)
        Of `share_of`.
    size : tuple of int
        Rows and columns of the input.

    Returns
    -------
    ndarray of float32, (rows, columns)
        As of `spread`.
    """
    return spread(np.tensordot(share, class_maps, axes=1), size)


def spread(evidence: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Scale evidence, (h, w), to 0 to 1 and to the size of the input; what speaks against is 0."""
    full = enlarged(np.maximum(evidence, 0.0), size)
    highest = full.max(initial=0.0)
    if highest > 0:
        full = full / highest
    return np.asarray(full.clip(0.0, 1.0), dtype=np.float32)


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
