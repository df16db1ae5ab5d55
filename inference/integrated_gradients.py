"""Integrated gradients (Sundararajan and others, 2017), by captum.

What each pixel adds on the way from a black input to the one that was read. All of it adds up to
the difference of the two log-odds (completeness), so cells of several pixels are plain sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .bundle_section import Activation
from .engines.class_maps import tensors_of
from .errors import InferenceError
from .extras import installed_by

# Cells to a side: single pixels are speckle, and tell a person nothing.
CELLS = 32
# Points on the way that go through the network at once, and back.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Integrated:
    """What the way from black came to.

    Attributes
    ----------
    values : ndarray of float32, (rows, columns)
        Log-odds that each pixel adds, all channels together.
    difference : float
        Log-odds of the input less those of black: what `values` should add up to.
    """

    values: NDArray[np.float32]
    difference: float

    @property
    def gap(self) -> float:
        """By how much the sum misses it: more steps make it smaller."""
        return float(self.values.sum(dtype=np.float64)) - self.difference


def integrated_gradients(
    network: nn.Module,
    row: torch.Tensor,
    output: int,
    activation: Activation,
    *,
    steps: int,
    baseline: float,
    pause: Callable[[], None] = lambda: None,
) -> Integrated:
    """Return what each pixel of a row adds to the log-odds of an output.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode; its first output is (rows, outputs).
    row : Tensor of float32, (1, channels, rows, columns)
        On its device.
    output : int
    activation : {"sigmoid", "softmax"}
    steps : int
        Points on the way.
    baseline : float
        Where it begins: the input's black.
    pause : callable
        Called before every few points: all of them take as long as dozens of images.

    Raises
    ------
    InferenceError
        If captum is not installed.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise InferenceError(
            f"integrated gradients need captum: {installed_by('explain')} (occlusion does not)"
        ) from error

    def told(rows: torch.Tensor) -> torch.Tensor:
        pause()
        # A layer that works in place must not change the leaf that captum made.
        outputs = tensors_of(network(rows.clone()))[0].float()
        if activation == "sigmoid" or outputs.shape[1] == 1:
            return outputs[:, output]
        others = torch.cat([outputs[:, :output], outputs[:, output + 1 :]], dim=1)
        return outputs[:, output] - torch.logsumexp(others, dim=1)

    black = torch.full_like(row, baseline)
    with torch.inference_mode(False), torch.enable_grad():
        # A tensor that was made under inference mode takes no gradient.
        plain = row.clone()
        found = IntegratedGradients(told).attribute(
            plain, black.clone(), n_steps=steps, internal_batch_size=_AT_ONCE
        )
    with torch.no_grad():
        difference = float((told(row) - told(black))[0])
    return Integrated(found[0].sum(dim=0).detach().float().cpu().numpy(), difference)


def summed(values: NDArray[np.float32], cell: int) -> NDArray[np.float32]:
    """Return the sums of square cells of pixels; the last ones reach beyond the input."""
    rows, columns = (-(-length // cell) for length in values.shape)
    padded = np.zeros((rows * cell, columns * cell), dtype=np.float64)
    padded[: values.shape[0], : values.shape[1]] = values
    sums = padded.reshape(rows, cell, columns, cell).sum(axis=(1, 3))
    return np.asarray(sums, dtype=np.float32)
