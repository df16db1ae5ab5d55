"""Crop, scaling and centring of pictures as two products with banded matrices, on any device.

The weights are those of `resize.bands`, so the result is that of the CPU but for rounding. A band
is some neighbouring outputs and the inputs that they are made of; the bands of an axis have one
size, so that they are one batch of small matrix products: from 512 to 256 pixels a fourteenth of
the work of whole matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from ..placement import Placement
from ..resize import ROWS, bands

# Outputs of a band: more of them waste weights that are 0, fewer read inputs several times.
_TOGETHER = 16
# Different lengths are few: those of the scanners of a hospital, and boxes around heads.
_KEPT = 1024


@dataclass(frozen=True, slots=True, eq=False)
class AxisPlan:
    """How the inputs of an axis become its outputs.

    Attributes
    ----------
    starts : ndarray of int64, (bands,)
        The first input of each band.
    weights : ndarray of float32, (bands, outputs of a band, inputs of a band)
        Rows of zeros make padding.
    """

    starts: NDArray[np.int64]
    weights: NDArray[np.float32]


@lru_cache(maxsize=_KEPT)
def axis_plan(inputs: int, outputs: int, size: int) -> AxisPlan:
    """Return the plan that scales `inputs` to `outputs` and centres them in `size`.

    Of an odd rest of padding the larger part comes after, as in `Placement.inside`.
    """
    before = (size - outputs) // 2
    count = -(-size // _TOGETHER)
    first = np.full(count * _TOGETHER, inputs, dtype=np.int64)
    last = np.zeros(count * _TOGETHER, dtype=np.int64)
    dense = np.zeros((count * _TOGETHER, inputs), dtype=np.float32)
    for band in bands(inputs, outputs, ROWS):
        rows = slice(before + band.outputs.start, before + band.outputs.stop)
        dense[rows, band.inputs] = band.weights
        first[rows], last[rows] = band.inputs.start, band.inputs.stop
    starts = first.reshape(count, _TOGETHER).min(axis=1)
    stops = last.reshape(count, _TOGETHER).max(axis=1)
    reach = int(np.maximum(stops - starts, 1).max())
    weights = np.zeros((count, _TOGETHER, reach), dtype=np.float32)
    for at, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        if stop > start:
            group = slice(at * _TOGETHER, (at + 1) * _TOGETHER)
            weights[at, :, : stop - start] = dense[group, start:stop]
    return AxisPlan(np.where(stops > starts, starts, 0), weights)


@dataclass(frozen=True, slots=True, eq=False)
class BatchPlan:
    """How a batch of pictures of one shape is placed: the plans of both axes, row by row.

    One of each is enough where all pictures are placed alike.

    Attributes
    ----------
    row_starts, column_starts : ndarray of int64, (1 or pictures, bands)
    row_weights, column_weights : ndarray of float32, (1 or pictures, bands, outputs, inputs)
    """

    row_starts: NDArray[np.int64]
    row_weights: NDArray[np.float32]
    column_starts: NDArray[np.int64]
    column_weights: NDArray[np.float32]

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """What has to be on the device, in the order that `placed` takes."""
        return self.row_starts, self.row_weights, self.column_starts, self.column_weights


def batch_plan(placements: tuple[Placement, ...]) -> BatchPlan:
    """Return the plan for pictures of one shape, each with its placement, of one size."""
    alike = placements[:1] if len(set(placements)) == 1 else placements
    rows = [(p.box[0], p.box[2], p.fitted[0], p.size) for p in alike]
    columns = [(p.box[1], p.box[3], p.fitted[1], p.size) for p in alike]
    return BatchPlan(*_stacked(rows), *_stacked(columns))


def _stacked(
    axes: list[tuple[int, int, int, int]],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    plans = [axis_plan(stop - start, fitted, size) for start, stop, fitted, size in axes]
    reach = max(plan.weights.shape[-1] for plan in plans)
    weights = [
        np.pad(plan.weights, ((0, 0), (0, 0), (0, reach - plan.weights.shape[-1])))
        for plan in plans
    ]
    starts = [plan.starts + axis[0] for plan, axis in zip(plans, axes, strict=True)]
    return np.stack(starts), np.stack(weights)


def placed(
    pictures: torch.Tensor,
    size: int,
    row_starts: torch.Tensor,
    row_weights: torch.Tensor,
    column_starts: torch.Tensor,
    column_weights: torch.Tensor,
) -> torch.Tensor:
    """Return pictures, (n, rows, channels, columns) of float32, as (n, channels, size, size).

    Everything lies on one device; see `BatchPlan` for the rest.
    """
    count, rows, channels, columns = pictures.shape
    down = _scaled(pictures.reshape(count, rows, -1), row_starts, row_weights)[:, :size]
    turned = down.reshape(count, size, channels, columns).permute(0, 3, 1, 2)
    across = _scaled(turned.reshape(count, columns, -1), column_starts, column_weights)[:, :size]
    return across.reshape(count, size, size, channels).permute(0, 3, 2, 1)


def _scaled(lines: torch.Tensor, starts: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Scale (n, inputs, any) along its second axis to (n, bands * outputs of a band, any)."""
    count, inputs, others = lines.shape
    bands_, outputs, reach = weights.shape[1:]
    # Beyond the last input the weights are 0.
    which = (starts[:, :, None] + torch.arange(reach, device=lines.device)).clamp_(max=inputs - 1)
    offsets = torch.arange(count, device=lines.device)[:, None] * inputs
    flat = (which.reshape(len(starts), -1) + offsets).reshape(-1)
    taken = lines.reshape(count * inputs, others).index_select(0, flat)
    made = torch.matmul(weights, taken.view(count, bands_, reach, others))
    return made.reshape(count, bands_ * outputs, others)
