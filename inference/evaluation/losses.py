"""What each image costs: log loss, and the weighted one of the RSNA 2019 competition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .metrics import Scores, Truth, Weights

# The loss of a certainty that is wrong would be infinite; this is where it ends.
_LEAST = 1e-15
# The label that stands for all others counts double in the competition.
ANY = "any"


def log_losses(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the loss of each decision, in nats; arrays of any one shape, scores 0 to 1."""
    said = np.where(truth, scores, 1.0 - scores)
    losses: NDArray[np.float64] = -np.log(np.clip(said, _LEAST, 1.0))
    return losses


def log_loss(scores: Scores, truth: Truth, weights: Weights | None = None) -> float | None:
    """Return the mean loss of a label over the images, (n,); None if there are none."""
    weight = np.ones(len(scores)) if weights is None else weights
    total = float(weight.sum())
    return float((weight * log_losses(scores, truth)).sum() / total) if total else None


def label_weights(names: Sequence[str]) -> NDArray[np.float64]:
    """Return what each label counts: ``any`` double; they add up to 1."""
    weights = np.array([2.0 if name == ANY else 1.0 for name in names])
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def weighted_log_losses(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], names: Sequence[str]
) -> NDArray[np.float64]:
    """Return the loss of each image, (n,): the weighted mean over its labels, (n, labels).

    The mean over the images is the figure of the RSNA 2019 competition.
    """
    losses: NDArray[np.float64] = log_losses(scores, truth) @ label_weights(names)
    return losses
