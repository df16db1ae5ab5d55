"""What a network says of a part of the data, and how good that is in one number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch import nn

from ..evaluation.ranking import auc_of
from .samples import Part

# As the contest of RSNA 2019 clipped.
CLIP = 1e-15


@dataclass(frozen=True, slots=True)
class Scores:
    """Probabilities of some images and what is true of them.

    Attributes
    ----------
    probabilities : ndarray of float64, (images, labels)
    truth : ndarray of bool, (images, labels)
    groups, series : ndarray of int64, (images,)
    positions : ndarray of float64, (images,)
    """

    probabilities: NDArray[np.float64]
    truth: NDArray[np.bool_]
    groups: NDArray[np.int64]
    series: NDArray[np.int64]
    positions: NDArray[np.float64]

    def of_labels(self, columns: Sequence[int]) -> Scores:
        """Return the same of some labels alone, by their columns."""
        chosen = list(columns)
        return replace(
            self, probabilities=self.probabilities[:, chosen], truth=self.truth[:, chosen]
        )

    def by_series(self) -> Iterator[NDArray[np.int64]]:
        """Yield the rows of each series in the order of position."""
        order = np.lexsort((self.positions, self.series))
        yield from np.split(order, np.flatnonzero(np.diff(self.series[order])) + 1)


def score(
    network: nn.Module, part: Part, device: torch.device, batch: int, amp: bool = False
) -> Scores:
    """Run `network` over `part`; images that cannot be decoded are left out."""
    network.eval()
    places, found = [], []
    order = [np.arange(i, min(i + batch, len(part))) for i in range(0, len(part), batch)]
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=amp):
        for rows, images in part.batches(order):
            if not len(rows):
                continue
            inputs = images.to(device).float() / 255
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            places.append(rows)
            found.append(torch.sigmoid(network(inputs).float()).double().cpu().numpy())
    chosen = np.concatenate(places)
    there = part.of(chosen)
    truth = there.labels > 0
    return Scores(np.concatenate(found), truth, there.groups, there.series, there.positions)


def weighted_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: Sequence[float],
    positive_weight: float = 1.0,
) -> torch.Tensor:
    """Return the mean cross-entropy, each label by its weight: `any` counts double (RSNA 2019).

    Parameters
    ----------
    logits, labels : Tensor, (images, labels)
    weights : sequence of float, (labels,)
    positive_weight : float
        How much more a positive counts than a negative.
    """
    each = torch.tensor(weights, device=logits.device)
    positive = torch.full_like(each, positive_weight)
    loss = F.binary_cross_entropy_with_logits(
        logits, labels, pos_weight=positive, reduction="none"
    ).mean(dim=0)
    return (loss * each).sum() / each.sum()


def weighted_log_loss(
    probabilities: NDArray[np.float64], truth: NDArray[np.bool_], weights: Sequence[float]
) -> float:
    """Return the metric of RSNA 2019: the mean over images of the weighted mean over labels.

    Parameters
    ----------
    probabilities : ndarray of float64, (images, labels)
        Clipped to 1e-15 from 0 and 1.
    truth : ndarray of bool, (images, labels)
    weights : sequence of float, (labels,)
        2 for ``any``, 1 for each subtype.
    """
    clipped = np.clip(probabilities, CLIP, 1 - CLIP)
    loss = -np.where(truth, np.log(clipped), np.log1p(-clipped))
    each = np.asarray(weights, dtype=np.float64)
    return float((loss @ each).mean() / each.sum())


def accuracy(found: Scores) -> NDArray[np.float64]:
    """Return, for each label, how often a probability lies on the right side of one half."""
    right: NDArray[np.float64] = ((found.probabilities >= 0.5) == found.truth).mean(axis=0)
    return right


def aucs(found: Scores, names: Sequence[str]) -> dict[str, float | None]:
    """Return the AUC of each label; None where only one outcome occurs."""
    return {
        name: auc_of(found.probabilities[:, column], found.truth[:, column])
        for column, name in enumerate(names)
    }
