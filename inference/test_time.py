"""Test-time augmentation: a network sees each input in several views, and their answers are one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, get_args

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from .engines import MadeWith
from .placement import Placement

Numbers = NDArray[np.float64]
Maps = NDArray[np.float32]
A = TypeVar("A", np.float64, np.float32)
Combination = Literal["mean", "max"]

# Radians, share of the input, share of the size: what patients on a table differ by anyway.
_TURN, _SHIFT, _SCALE = 0.10, 0.04, 0.06


@dataclass(frozen=True, slots=True)
class TestTime:
    """Which views are shown, and how the answers are combined.

    The first view is the input as it is, the second its mirror image; of the others every second
    is mirrored too, and all are moved, turned and scaled a little, as the seed says. The same
    settings give the same views always, whatever the batch.

    Attributes
    ----------
    combination : {"mean", "max"}
        Mean or maximum of the probabilities.
    views : int
        How many, 1 to 64; each costs a run of the network.
    seed : int

    Raises
    ------
    ValueError
        If a value is impossible.
    """

    # pytest takes classes that are called so for tests.
    __test__ = False

    combination: Combination = "mean"
    views: int = 8
    seed: int = 1

    def __post_init__(self) -> None:
        if self.combination not in get_args(Combination):
            raise ValueError(f"views are combined by mean or max, not by {self.combination!r}")
        if not 1 <= self.views <= 64:
            raise ValueError(f"{self.views} views is outside 1 to 64")

    def movements(self) -> torch.Tensor:
        """Return where each view looks: affine maps of torch, (views, 2, 3)."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.stack([_movement(index, generator) for index in range(self.views)])


class Answers(Protocol):
    """What a reader asks of a network; see `Network`."""

    @property
    def made_with(self) -> MadeWith | None:
        """What the last batch of this thread was computed with."""
        ...

    @property
    def rows_made_with(self) -> tuple[MadeWith, ...]:
        """The same of each row of it."""
        ...

    def probabilities(self, tensor: torch.Tensor, /) -> Numbers:
        """Return (rows, labels)."""
        ...

    def maps(self, tensor: torch.Tensor, /) -> Maps:
        """Return (rows, labels or outputs, size, size)."""
        ...

    def both(self, tensor: torch.Tensor, /) -> tuple[Numbers, Maps]:
        """Return (rows, labels) and (rows, mapped labels, size, size)."""
        ...

    def looked_at(self, row: torch.Tensor, column: int, place: Placement, /) -> Maps | None:
        """Return (h, w) over the source."""
        ...


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
        self._movements = test_time.movements()

    @property
    def made_with(self) -> MadeWith | None:
        """What the last view was computed with."""
        return self._network.made_with

    @property
    def rows_made_with(self) -> tuple[MadeWith, ...]:
        """The same of each row."""
        return self._network.rows_made_with

    def probabilities(self, tensor: torch.Tensor) -> Numbers:
        """Return probabilities; see `Network.probabilities`."""
        seen = [self._network.probabilities(self._view(tensor, one)) for one in self._movements]
        return self._combined(seen)

    def maps(self, tensor: torch.Tensor) -> Maps:
        """Return maps, each turned back before they are combined; see `Network.maps`."""
        seen = [
            _turned_back(self._network.maps(self._view(tensor, one)), one)
            for one in self._movements
        ]
        return self._combined(seen)

    def both(self, tensor: torch.Tensor) -> tuple[Numbers, Maps]:
        """Return probabilities and maps; see `Network.both`."""
        seen = [(self._network.both(self._view(tensor, one)), one) for one in self._movements]
        told = self._combined([numbers for (numbers, _), _ in seen])
        return told, self._combined([_turned_back(maps, one) for (_, maps), one in seen])

    def looked_at(self, row: torch.Tensor, column: int, place: Placement) -> Maps | None:
        """Return where the network looks in the input as it is; see `Network.looked_at`."""
        return self._network.looked_at(row, column, place)

    def _view(self, tensor: torch.Tensor, movement: torch.Tensor) -> torch.Tensor:
        if self._black is None:
            return _moved(tensor, movement, tensor.amin(dim=(1, 2, 3), keepdim=True))
        return _moved(tensor, movement, self._black)

    def _combined(self, seen: Sequence[NDArray[A]]) -> NDArray[A]:
        if self._test_time.combination == "max":
            return np.asarray(np.max(seen, axis=0), dtype=seen[0].dtype)
        return np.asarray(np.mean(seen, axis=0), dtype=seen[0].dtype)


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
