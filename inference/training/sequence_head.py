"""The head over the slices of a series as it learns; `sequence` carries it out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class SequenceHead(nn.Module):
    """A small bidirectional GRU whose output corrects the plain maximum over the slices.

    Untrained it is the maximum: the correction begins at zero.

    Parameters
    ----------
    labels : int
    hidden : int
        Units of the GRU, for each direction.
    """

    def __init__(self, labels: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(labels + 2, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(4 * hidden, labels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Return logits, (labels,), of the steps of one series, (steps, labels + 2)."""
        states = self.gru(steps[None])[0][0]
        pooled = torch.cat([states.amax(dim=0), states.mean(dim=0)])
        corrected: torch.Tensor = steps[:, :-2].amax(dim=0) + self.out(pooled)
        return corrected

    def logits(self, steps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the same of arrays, without gradients; see `sequence.SequenceLogits`."""
        with torch.inference_mode():
            made: NDArray[np.float32] = self(torch.from_numpy(steps)).numpy()
        return made
