"""Rows of an input made on the device, from stored values that are uploaded as they are.

::

    stored values, tables  --one copy-->  look up  -->  crop, scale, centre  -->  rows

Looking up is rescale or LUT, repairs, padding, inversion and windows at once (`stored_picture`,
`greys`); the rest are two banded matrix products (`banded`). What comes without a table is prepared
on the host by `preprocess` and uploaded as rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..input_spec import InputSpec
from ..pixels import ModalityImage
from ..placement import Placement
from .banded import batch_plan, placed
from .greys import greys_of
from .lanes import Lane, Mark
from .staging import Staging
from .stored_picture import StoredPicture

# Share of the pixels at either end that set neither black nor white; as in `preprocess`.
_TAIL = 0.005

Picture = StoredPicture | ModalityImage


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Rows that lie on the device, or will.

    Attributes
    ----------
    rows : Tensor of float32, (rows, channels, size, size)
    ready : Mark
        When they do.
    contrast : Tensor of bool, (rows,), or None
        On the host, valid after `ready`; of films, whether what is shown has two values.
    """

    rows: torch.Tensor
    ready: Mark
    contrast: torch.Tensor | None = None


class DeviceInput:
    """Makes rows for one specification; for one thread.

    Parameters
    ----------
    spec : InputSpec
        For which `choice.is_made_on` holds.
    lane : Lane
    """

    def __init__(self, spec: InputSpec, lane: Lane) -> None:
        self._spec = spec
        self._lane = lane
        self._staging = Staging(lane)

    def prepare(
        self,
        pictures: Sequence[Picture],
        placements: Sequence[Placement],
        on_host: Sequence[NDArray[np.float32] | None],
    ) -> Prepared:
        """Begin to make the rows of some pictures, which may differ in shape and type.

        Parameters
        ----------
        pictures : sequence of StoredPicture or ModalityImage
        placements : sequence of Placement
            What to show of each.
        on_host : sequence of ndarray, (channels, size, size), or None
            The row of each picture that has no table.
        """
        spec = self._spec
        with self._lane.entered(), torch.no_grad():
            shape = (len(pictures), spec.channels, spec.size, spec.size)
            rows = torch.empty(shape, device=self._lane.device)
            for numbers in _alike(pictures):
                made = self._group(numbers, pictures, placements, on_host)
                if len(numbers) == len(pictures):
                    rows = made
                else:
                    (which,) = self._staging.upload([np.array(numbers, dtype=np.int64)])
                    rows.index_copy_(0, which, made)
            contrast = self._contrast(rows, placements)
        return Prepared(rows, self._lane.mark(), contrast)

    def _group(
        self,
        numbers: Sequence[int],
        pictures: Sequence[Picture],
        placements: Sequence[Placement],
        on_host: Sequence[NDArray[np.float32] | None],
    ) -> torch.Tensor:
        group = [pictures[number] for number in numbers]
        stored = [one for one in group if isinstance(one, StoredPicture)]
        if not stored:
            made = [row for number in numbers if (row := on_host[number]) is not None]
            return self._staging.upload([np.stack(made)])[0]
        placed_at = tuple(placements[number] for number in numbers)
        spread = self._scaled(stored, placed_at)
        return spread if self._spec.kind == "ct_slices" else self._film(spread, placed_at)

    def _scaled(
        self, pictures: Sequence[StoredPicture], placements: tuple[Placement, ...]
    ) -> torch.Tensor:
        """Look up and scale pictures of one shape and type: (n, channels, size, size)."""
        greys = [greys_of(one, self._spec) for one in pictures]
        lengths = [one.shape[1] for one in greys]
        # An entry of a picture stands at its stored value, less the first, behind other tables.
        shifts = np.cumsum([0, *lengths[:-1]]) - [one.first for one in pictures]
        plan = batch_plan(placements)
        stored, tables, shift, *axes = self._staging.upload(
            [
                np.stack([one.stored for one in pictures]),
                np.concatenate(greys, axis=1),
                shifts.astype(np.int64),
                *plan.arrays,
            ]
        )
        index = stored.to(torch.int32)
        if pictures[0].stored.dtype == np.uint16:
            index = index.bitwise_and_(0xFFFF)
        index = index.add_(shift.to(torch.int32)[:, None, None])
        count, rows, columns = index.shape
        channels = [table.index_select(0, index.reshape(-1)) for table in tables]
        looked_up = torch.stack([one.view(count, rows, columns) for one in channels], dim=2)
        made = placed(looked_up, self._spec.size, *axes)
        # Takes away what interpolation overshoots by rounding; a film is not spread yet.
        return made.clamp(0.0, 1.0) if self._spec.kind == "ct_slices" else made

    def _film(self, scaled: torch.Tensor, placements: Sequence[Placement]) -> torch.Tensor:
        """Spread the greys of films; only what is shown of each counts, and padding is black."""
        spec = self._spec
        made = torch.zeros_like(scaled)
        for film, out, placement in zip(scaled, made, placements, strict=True):
            down, across = placement.inside
            shown = film[:, down, across]
            if spec.intensity != "full_range":
                shown = _spread(shown)
            out[:, down, across] = shown.clamp(0.0, 1.0)
        black, white = spec.value_range
        if (black, white) != (0.0, 1.0):
            made = made * (white - black) + black
        return made.repeat(1, spec.copies, 1, 1)

    def _contrast(self, rows: torch.Tensor, placements: Sequence[Placement]) -> torch.Tensor | None:
        if self._spec.kind == "ct_slices":
            return None
        told = []
        for row, placement in zip(rows, placements, strict=True):
            down, across = placement.inside
            shown = row[..., down, across]
            told.append(shown.amin() < shown.amax())
        return torch.stack(told).to("cpu", non_blocking=True)


def _alike(pictures: Sequence[Picture]) -> list[list[int]]:
    """Return the numbers of pictures that can be done together, group by group."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, one in enumerate(pictures):
        stored = isinstance(one, StoredPicture)
        key = (one.stored.dtype.str, *one.stored.shape) if isinstance(one, StoredPicture) else ()
        groups.setdefault((stored, *key), []).append(number)
    return list(groups.values())


def _spread(shown: torch.Tensor) -> torch.Tensor:
    """Spread greys between their tails, by nearest rank; black where they do not differ."""
    ordered = shown.flatten().sort().values
    rank = math.floor(_TAIL * (len(ordered) - 1))
    low, high = ordered[rank], ordered[-1 - rank]
    # No question to the device, which the host would have to wait for.
    return torch.where(high > low, (shown - low) / (high - low), 0.0)
