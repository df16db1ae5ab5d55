"""A network that is shown each input in several views, as `test_time` says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from .engines import MadeWith, Rows
from .explaining import Wanted
from .explanation import Evidence
from .kept_passes import RowPass
from .placement import Placement
from .test_time import Answers, Maps, Numbers, TestTime

A = TypeVar("A", np.float64, np.float32)

# Radians, share of the input, share of the size: what patients on a table differ by anyway.
_TURN, _SHIFT, _SCALE = 0.10, 0.04, 0.06


class SeveralViews:
    """A network that is shown each input in several views; it answers as one.

    Parameters
    ----------
    network : Answers
    test_time : TestTime
    black : float or None
        What the input has where there is no picture; views show it beyond their edges. None is the
        lowest value of each input.
    """

    def __init__(self, network: Answers, test_time: TestTime, black: float | None = 0.0) -> None:
        self._network = network
        self._black = black
        self._test_time = test_time
        self._movements = movements(test_time.views, test_time.seed)

    @property
    def made_with(self) -> MadeWith | None:
        """What the last view was computed with."""
        return self._network.made_with

    @property
    def rows_made_with(self) -> tuple[MadeWith, ...]:
        """The same of each row."""
        return self._network.rows_made_with

    def probabilities(self, tensor: Rows) -> Numbers:
        """Return probabilities; see `Network.probabilities`."""
        seen = [self._network.probabilities(self._view(tensor, one)) for one in self._movements]
        return self._combined(seen)

    def maps(self, tensor: Rows) -> Maps:
        """Return maps, each turned back before they are combined; see `Network.maps`."""
        seen = [
            _turned_back(self._network.maps(self._view(tensor, one)), one)
            for one in self._movements
        ]
        return self._combined(seen)

    def both(self, tensor: Rows) -> tuple[Numbers, Maps]:
        """Return probabilities and maps; see `Network.both`."""
        seen = [(self._network.both(self._view(tensor, one)), one) for one in self._movements]
        told = self._combined([numbers for (numbers, _), _ in seen])
        return told, self._combined([_turned_back(maps, one) for (_, maps), one in seen])

    def outputs_of(self, tensor: Rows) -> None:
        """Return None: the last pass was that of a view."""

    def evidence_of(self, row: RowPass, column: int, wanted: Wanted) -> Evidence | None:
        """Return what each cell adds, by a pass over the input as it is."""
        return self._network.evidence_of(row, column, wanted)

    def looked_at(self, row: Rows, column: int, place: Placement) -> Maps | None:
        """Return where the network looks in the input as it is; see `Network.looked_at`."""
        return self._network.looked_at(row, column, place)

    def explained(self, row: Rows, column: int, wanted: Wanted) -> Evidence | None:
        """Return what each cell of the input as it is adds; see `Network.explained`."""
        return self._network.explained(row, column, wanted)

    def _view(self, rows: Rows, movement: torch.Tensor) -> torch.Tensor:
        tensor = torch.as_tensor(rows)
        if self._black is None:
            return _moved(tensor, movement, tensor.amin(dim=(1, 2, 3), keepdim=True))
        return _moved(tensor, movement, self._black)

    def _combined(self, seen: Sequence[NDArray[A]]) -> NDArray[A]:
        if self._test_time.combination == "max":
            return np.asarray(np.max(seen, axis=0), dtype=seen[0].dtype)
        return np.asarray(np.mean(seen, axis=0), dtype=seen[0].dtype)


def movements(views: int, seed: int) -> torch.Tensor:
    """Return where each view looks: affine maps of torch, (views, 2, 3)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([_movement(index, generator) for index in range(views)])


def _turned_back(maps: Maps, movement: torch.Tensor) -> Maps:
    return np.asarray(_moved(torch.from_numpy(maps), _inverse(movement)).numpy())


def _movement(index: int, generator: torch.Generator) -> torch.Tensor:
    mirror = -1.0 if index % 2 else 1.0
    # Drawn for every view, so that the first ones do not depend on how many there are.
    turn, across, down, scale = (
        (2 * float(drawn) - 1) for drawn in torch.rand(4, generator=generator)
    )
    if index < 2:
        return torch.tensor([[mirror, 0.0, 0.0], [0.0, 1.0, 0.0]])
    size = 1 + _SCALE * scale
    cos, sin = size * math.cos(_TURN * turn), size * math.sin(_TURN * turn)
    rows: Sequence[Sequence[float]] = [
        [mirror * cos, -sin, 2 * _SHIFT * across],
        [mirror * sin, cos, 2 * _SHIFT * down],
    ]
    return torch.tensor(rows)


def _inverse(movement: torch.Tensor) -> torch.Tensor:
    turn = torch.linalg.inv(movement[:, :2])
    return torch.cat([turn, -turn @ movement[:, 2:]], dim=1)


def _moved(
    pictures: torch.Tensor, movement: torch.Tensor, beyond: float | torch.Tensor = 0.0
) -> torch.Tensor:
    """Return what a movement shows; beyond the edges of maps there is nothing, 0."""
    turn = movement[:, :2]
    if not movement[:, 2].any() and torch.equal(turn.abs(), torch.eye(2)):
        # Exact: no value is interpolated.
        return pictures.flip(-1) if turn[0, 0] < 0 else pictures
    maps = movement.to(pictures).expand(len(pictures), 2, 3)
    grid = F.affine_grid(maps, list(pictures.shape), align_corners=False)
    # The sampling pads with zeros, which is black in some inputs only.
    shown = F.grid_sample(pictures - beyond, grid, padding_mode="zeros", align_corners=False)
    return shown + beyond
