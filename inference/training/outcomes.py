"""Labels of which a training sees one outcome alone: nothing can be learnt of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import InferenceError


def unlearnable(labels: NDArray[np.uint8], names: Sequence[str]) -> dict[str, str]:
    """Return the labels that all images have or none has, and what is lacking.

    A network learns to say never, or always, of such a label. Served, it would write that into
    reports as a finding.

    Parameters
    ----------
    labels : ndarray of uint8, (images, labels)
        Of the images to learn from.
    names : sequence of str

    Raises
    ------
    InferenceError
        If there is nothing to learn of any label.
    """
    found = {}
    for name, column in zip(names, labels.T, strict=True):
        if not column.any():
            found[name] = "no positive image"
        elif column.all():
            found[name] = "no negative image"
    if len(found) == len(names):
        told = ", ".join(f"{name}: {lacking}" for name, lacking in found.items())
        raise InferenceError(
            f"there is nothing to learn in the {len(labels)} images of the training part ({told}): "
            "give labelled images with and without a finding, or split them by another --seed"
        )
    return found


def prevalence(labels: NDArray[np.uint8], names: Sequence[str]) -> Mapping[str, float]:
    """Return how frequent each label is, above 0 and below 1; `labels`: (images, labels).

    By the rule of succession, (positive + 1) / (images + 2): what was not seen yet is not
    impossible.
    """
    shares = (labels.sum(axis=0, dtype=np.float64) + 1) / (len(labels) + 2)
    return {name: round(float(share), 6) for name, share in zip(names, shares, strict=True)}
