"""A head over the slices of a series: what they say together, in the order of position.

It sees the probabilities that the slices have by themselves, so it is independent of the network
that gave them. Slices are brought to an even step in millimetres first, so that a thin and a thick
reconstruction of one head look alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from .bundle import Bundle
from .errors import BundleError, NotAnalysableError
from .reading import NotAnalysed
from .sequence_spec import SequenceSpec

# As far from 0 and 1 as a slice's probability is taken: logits between -7 and 7.
_CLIP = 1e-3
# A distance to the next slice that is larger counts as this.
_FAR_MM = 50.0
# A series that reaches farther has positions that are not true.
_LONGEST_MM = 3_000.0


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


def steps_of(
    probabilities: NDArray[np.float64], positions_mm: NDArray[np.float64], step_mm: float
) -> torch.Tensor:
    """Return what the head sees of a series.

    Parameters
    ----------
    probabilities : ndarray of float64, (slices, labels)
    positions_mm : ndarray of float64, (slices,)
        Along the normal, in any order.
    step_mm : float
        Thickness of a step: slices in one are averaged, steps without one are interpolated.

    Returns
    -------
    Tensor of float32, (steps, labels + 2)
        Logits; distance to the nearest slice and place in the series, both about 0 to 1.

    Raises
    ------
    NotAnalysableError
        NO_GEOMETRY if the slices reach over more than 3 m, or their positions are no numbers.
    """
    extent = float(np.ptp(positions_mm))
    if not extent <= _LONGEST_MM:
        raise NotAnalysableError(
            NotAnalysed.NO_GEOMETRY,
            f"the positions of the slices reach over {extent:.0f} mm, more than any body",
        )
    order = np.lexsort((*probabilities.T[::-1], positions_mm))
    clipped = np.clip(probabilities[order], _CLIP, 1 - _CLIP)
    logits, places = np.log(clipped / (1 - clipped)), positions_mm[order] - positions_mm.min()
    numbers = np.floor(places / step_mm + 0.5).astype(np.int64)
    there, begins = np.unique(numbers, return_index=True)
    counts = np.diff(np.append(begins, len(numbers)))[:, None]
    means = np.add.reduceat(logits, begins, axis=0) / counts
    every = np.arange(there[-1] + 1)
    filled = np.stack([np.interp(every, there, column) for column in means.T], axis=1)
    away = np.abs(every[:, None] - there[None, :]).min(axis=1) * step_mm
    place = every / max(1, every[-1])
    told = np.column_stack([filled, np.minimum(away, _FAR_MM) / _FAR_MM, place])
    return torch.from_numpy(told.astype(np.float32))


class Sequencer:
    """The head of a bundle at work, on the CPU: a series takes a millisecond.

    Parameters
    ----------
    bundle : Bundle
        With a ``sequence`` section.

    Raises
    ------
    BundleError
        If its weights cannot be read or do not fit.
    """

    def __init__(self, bundle: Bundle) -> None:
        assert bundle.sequence is not None
        self._spec = bundle.sequence
        path = bundle.path / self._spec.weights
        self._head = SequenceHead(len(bundle.labels), self._spec.hidden)
        try:
            self._head.load_state_dict(_weights(path), strict=True)
        except RuntimeError as error:
            first = " ".join(str(error).split()[:20])
            raise BundleError(f"{path} does not fit the sequence head: {first}") from error
        self._head.eval().requires_grad_(False)

    def series(
        self, probabilities: NDArray[np.float64], positions_mm: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the probability of each label in the whole series, (labels,).

        Raises
        ------
        BundleError
            If the head gives what is no number.
        """
        return series_probabilities(self._head, self._spec, probabilities, positions_mm)


def series_probabilities(
    head: SequenceHead,
    spec: SequenceSpec,
    probabilities: NDArray[np.float64],
    positions_mm: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return what `head` says of a series, (labels,); see `Sequencer.series`."""
    with torch.inference_mode():
        logits = head(steps_of(probabilities, positions_mm, spec.step_mm)).double().numpy()
    if not np.isfinite(logits).all():
        raise BundleError("the sequence head gives outputs that are no numbers")
    found: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    return found


def _weights(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
