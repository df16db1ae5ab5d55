"""A head over the slices of a series: what they say together, in the order of position.

It sees the probabilities that the slices have by themselves, so it is independent of the network
that gave them. Slices are brought to an even step in millimetres first, so that a thin and a thick
reconstruction of one head look alike. What `training.sequence_head` learns is carried out here in
NumPy, for a hundred steps of a few units in a millisecond: light, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from .bundle import Bundle
from .errors import BundleError, NotAnalysableError
from .reading import NotAnalysed
from .sequence_spec import SequenceSpec
from .unchanged import require_unchanged

Floats = NDArray[np.float32]

# As far from 0 and 1 as a slice's probability is taken: logits between -7 and 7.
_CLIP = 1e-3
# A distance to the next slice that is larger counts as this.
_FAR_MM = 50.0
# A series that reaches farther has positions that are not true.
_LONGEST_MM = 3_000.0
# How each direction of the GRU ends the names of its weights, as torch has them.
_DIRECTIONS = ("l0", "l0_reverse")


class SequenceLogits(Protocol):
    """A head that says what the steps of a series mean."""

    def logits(self, steps: Floats, /) -> Floats:
        """Return logits, (labels,), of the steps of one series, (steps, labels + 2)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Direction:
    """A GRU in one direction: weights of the input and of the state, gates one below the other."""

    of_input: Floats
    of_state: Floats
    input_bias: Floats
    state_bias: Floats

    def states(self, steps: Floats) -> Floats:
        """Return the state after each step, (steps, hidden)."""
        hidden = self.of_state.shape[1]
        given = steps @ self.of_input.T + self.input_bias
        state = np.zeros(hidden, dtype=np.float32)
        states = np.empty((len(steps), hidden), dtype=np.float32)
        for number, one in enumerate(given):
            kept = self.of_state @ state + self.state_bias
            reset = _sigmoid(one[:hidden] + kept[:hidden])
            update = _sigmoid(one[hidden : 2 * hidden] + kept[hidden : 2 * hidden])
            new = np.tanh(one[2 * hidden :] + reset * kept[2 * hidden :])
            state = new + update * (state - new)
            states[number] = state
        return states


class GruHead:
    """A bidirectional GRU whose output corrects the plain maximum over the slices.

    Parameters
    ----------
    weights : mapping of str to ndarray of float32
        By the names of `training.sequence_head.SequenceHead`.
    labels, hidden : int
        Outputs, and units for each direction.

    Raises
    ------
    ValueError
        If a weight is missing, has another shape or is none of its weights.
    """

    def __init__(self, weights: Mapping[str, NDArray[np.generic]], labels: int, hidden: int):
        shapes = _shapes(labels, hidden)
        if unknown := weights.keys() ^ shapes.keys():
            raise ValueError(f"it has, or lacks, {', '.join(sorted(unknown))}")
        for name, shape in shapes.items():
            if weights[name].shape != shape:
                raise ValueError(f"{name} has the shape {weights[name].shape}, not {shape}")
        told = {name: weights[name].astype(np.float32) for name in shapes}
        self._forward, self._backward = (
            _Direction(
                told[f"gru.weight_ih_{name}"],
                told[f"gru.weight_hh_{name}"],
                told[f"gru.bias_ih_{name}"],
                told[f"gru.bias_hh_{name}"],
            )
            for name in _DIRECTIONS
        )
        self._out, self._bias = told["out.weight"], told["out.bias"]

    def logits(self, steps: Floats) -> Floats:
        """Return logits, (labels,), of the steps of one series, (steps, labels + 2)."""
        back = self._backward.states(steps[::-1])[::-1]
        states = np.concatenate([self._forward.states(steps), back], axis=1)
        pooled = np.concatenate([states.max(axis=0), states.mean(axis=0)])
        corrected: Floats = steps[:, :-2].max(axis=0) + (self._out @ pooled + self._bias)
        return corrected


def steps_of(
    probabilities: NDArray[np.float64], positions_mm: NDArray[np.float64], step_mm: float
) -> Floats:
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
    ndarray of float32, (steps, labels + 2)
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
    return told.astype(np.float32)


class Sequencer:
    """The head of a bundle at work.

    Parameters
    ----------
    bundle : Bundle
        With a ``sequence`` section.

    Raises
    ------
    BundleError
        If its weights cannot be read, do not fit, or are others than when the bundle was opened.
    """

    def __init__(self, bundle: Bundle) -> None:
        assert bundle.sequence is not None
        self._spec = bundle.sequence
        path = bundle.path / self._spec.weights
        try:
            self._head = GruHead(_weights(path), len(bundle.labels), self._spec.hidden)
        except ValueError as error:
            raise BundleError(f"{path} does not fit the sequence head: {error}") from error
        require_unchanged(path, self._spec.weights_sha256)

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
    head: SequenceLogits,
    spec: SequenceSpec,
    probabilities: NDArray[np.float64],
    positions_mm: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return what `head` says of a series, (labels,); see `Sequencer.series`."""
    logits = head.logits(steps_of(probabilities, positions_mm, spec.step_mm)).astype(np.float64)
    if not np.isfinite(logits).all():
        raise BundleError("the sequence head gives outputs that are no numbers")
    found: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    return found


def _sigmoid(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        made: Floats = np.float32(1) / (np.float32(1) + np.exp(-values))
    return made


def _shapes(labels: int, hidden: int) -> dict[str, tuple[int, ...]]:
    of_each = {
        "weight_ih": (3 * hidden, labels + 2),
        "weight_hh": (3 * hidden, hidden),
        "bias_ih": (3 * hidden,),
        "bias_hh": (3 * hidden,),
    }
    gru = {f"gru.{name}_{way}": of_each[name] for way in _DIRECTIONS for name in of_each}
    return {**gru, "out.weight": (labels, 4 * hidden), "out.bias": (labels,)}


def _weights(path: Path) -> Mapping[str, NDArray[np.generic]]:
    try:
        loaded: Mapping[str, NDArray[np.generic]] = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    return loaded
