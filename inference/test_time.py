"""Test-time augmentation: which views of each input a network is shown; `several_views` shows them.

Light: torch is imported only where there are views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from .engines import MadeWith, RawOutputs, Rows
from .explaining import Wanted
from .explanation import Evidence
from .kept_passes import RowPass
from .placement import Placement

if TYPE_CHECKING:
    import torch

Numbers = NDArray[np.float64]
Maps = NDArray[np.float32]
Combination = Literal["mean", "max"]


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
        from .several_views import movements

        return movements(self.views, self.seed)


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

    def probabilities(self, tensor: Rows, /) -> Numbers:
        """Return (rows, labels)."""
        ...

    def maps(self, tensor: Rows, /) -> Maps:
        """Return (rows, labels or outputs, size, size)."""
        ...

    def both(self, tensor: Rows, /) -> tuple[Numbers, Maps]:
        """Return (rows, labels) and (rows, mapped labels, size, size)."""
        ...

    def outputs_of(self, tensor: Rows, /) -> RawOutputs | None:
        """Return what the last pass gave for these very rows, as they are; None if it was not."""
        ...

    def evidence_of(self, row: RowPass, column: int, wanted: Wanted, /) -> Evidence | None:
        """Return what each cell of the input adds to a label, if a pass that was made tells it."""
        ...

    def looked_at(self, row: Rows, column: int, place: Placement, /) -> Maps | None:
        """Return (h, w) over the source."""
        ...

    def explained(self, row: Rows, column: int, wanted: Wanted, /) -> Evidence | None:
        """Return what each cell of the input adds to a label."""
        ...
