"""Training of the head over the slices, on patients whom the network of the slices never saw.

On the patients that the network learnt from its probabilities are too good to learn anything from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..sequence import series_probabilities, steps_of
from ..sequence_spec import SequenceSpec
from .scores import Scores, weighted_loss
from .sequence_head import SequenceHead

EPOCHS, RATE, WEIGHT_DECAY = 40, 3e-3, 1e-2
_THINNED = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class TrainedSequence:
    """A head that was trained. `series` is the number of series that it learnt from."""

    head: SequenceHead
    spec: SequenceSpec
    series: int


def fit_sequence(
    found: Scores,
    weights: Sequence[float],
    seed: int,
    spec: SequenceSpec | None = None,
    epochs: int = EPOCHS,
) -> TrainedSequence:
    """Train a head on what the network says of whole series.

    A label of weight 0, or of which these series show one outcome alone, stays the plain maximum:
    of the latter there is nothing to learn but never to say it.

    On the CPU whatever the device: a series takes a millisecond, and the result is the same
    everywhere. Half of the time every second slice is left out, as in a thicker reconstruction.

    Parameters
    ----------
    found : Scores
        Of images, with their series and positions.
    weights : sequence of float, (labels,)
        As in `scores.weighted_loss`; 0 for what is not to be learnt (`head_part.HeadPart.few`).
    """
    spec = spec or SequenceSpec()
    labels = found.truth.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = SequenceHead(labels, spec.hidden)
    rng = np.random.default_rng([seed, 41])
    series = [
        (found.probabilities[rows], found.positions[rows], found.truth[rows].any(axis=0))
        for rows in found.by_series()
    ]
    outcomes = np.stack([truth for _, _, truth in series])
    both = [bool(one.any() and not one.all()) for one in outcomes.T]
    weights = [weight * float(told) for weight, told in zip(weights, both, strict=True)]
    if not any(weights):
        return TrainedSequence(head.eval(), spec, len(series))
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(epochs):
        for index in rng.permutation(len(series)):
            probabilities, positions, truth = series[index]
            kept = _thinned(len(positions), rng)
            steps = steps_of(probabilities[kept], positions[kept], spec.step_mm)
            logits = head(torch.from_numpy(steps))
            wanted = torch.from_numpy(truth.astype(np.float32))[None]
            loss = weighted_loss(logits[None], wanted, weights)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
    return TrainedSequence(head.eval(), spec, len(series))


def sequence_scores(trained: TrainedSequence, found: Scores) -> NDArray[np.float64]:
    """Return what the head says of each series, (series, labels), in the order of `by_series`."""
    return np.stack(
        [
            series_probabilities(
                trained.head, trained.spec, found.probabilities[rows], found.positions[rows]
            )
            for rows in found.by_series()
        ]
    )


def _thinned(slices: int, rng: np.random.Generator) -> NDArray[np.int64]:
    every = np.arange(slices)
    if slices < 4 or rng.random() >= _THINNED:
        return every
    return every[int(rng.integers(2)) :: 2]
