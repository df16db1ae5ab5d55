"""Which images an epoch learns from, and in which order: a function of seed and epoch alone.

So nothing of it needs to be kept for a training that goes on after an interruption.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .samples import Part

Rows = NDArray[np.int64]


def epoch_batches(
    part: Part, batch: int, share: float, balanced: bool, seed: int, epoch: int
) -> list[Rows]:
    """Return the batches of an epoch, as places among the images of `part`.

    Parameters
    ----------
    part : Part
        Its twins stay together: side by side they teach what sets them apart; scattered over
        batches, mostly what they share.
    batch : int
        Images in each; what would be left over is left out, unless it is all there is.
    share : float
        Of the images, drawn anew for each epoch.
    balanced : bool
        As many with any label as without: of the rarer kind all at most, so that an epoch can be
        shorter.
    seed, epoch : int

    Returns
    -------
    list of ndarray of int64
    """
    rng = np.random.default_rng([seed, 21, epoch])
    order = _twins(part.groups, rng) if part.twins else rng.permutation(len(part))
    count = max(1, round(share * len(part)))
    if balanced:
        order = _balanced(order, part.labels.max(axis=1) > 0, count)
    order = order[:count]
    steps = max(1, len(order) // batch)
    return [order[step * batch : (step + 1) * batch] for step in range(steps)]


def step_seed(seed: int, purpose: int, epoch: int, step: int) -> int:
    """Return the seed of what is random in one step: dropout, augmentation."""
    words = np.random.SeedSequence([seed, purpose, epoch, step]).generate_state(2)
    return int(words[0]) << 31 ^ int(words[1])


def members(part: Part, chosen: Rows) -> torch.Tensor:
    """Return which images of a batch are changed alike: twins, else each by itself."""
    if not part.twins:
        return torch.arange(len(chosen))
    return torch.from_numpy(np.unique(part.groups[chosen], return_inverse=True)[1])


def _twins(groups: Rows, rng: np.random.Generator) -> Rows:
    codes = np.unique(groups, return_inverse=True)[1]
    rank = rng.permutation(int(codes.max()) + 1)
    order: Rows = np.argsort(rank[codes], kind="stable")
    return order


def _balanced(order: Rows, positive: NDArray[np.bool_], count: int) -> Rows:
    """Return up to `count` of `order`, half of them positive while there are, in its order."""
    place = np.arange(len(order))
    yes, no = place[positive[order]], place[~positive[order]]
    half = min(count // 2, len(yes), len(no)) if len(yes) and len(no) else 0
    if not half:
        return order
    kept: Rows = order[np.sort(np.concatenate([yes[:half], no[:half]]))]
    return kept
