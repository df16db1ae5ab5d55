"""What a network gave for the images of a reading, kept for the pictures of some of them.

Which images are key is known after the last one; a class map is there in the pass of each. Kept is
what a picture may need: all of it while that is little, such as the maps of 8 x 8 of 18 outputs for
900 slices, then that of the images alone which would be shown if no other came.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .engines import RawOutputs
from .placement import Placement, Shape

# Of one reading.
MOST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, eq=False)
class RowPass:
    """What a pass of the network gave for one row of the input.

    Attributes
    ----------
    batch : RawOutputs
        Of this row, and perhaps of others.
    number : int
        Which row of the batch it is.
    size : tuple of int
        Rows and columns of the input.
    placement : Placement
        What of its source the input shows.
    """

    batch: RawOutputs
    number: int
    size: Shape
    placement: Placement

    @property
    def outputs(self) -> RawOutputs:
        """Those of this row alone; views of those of the batch."""
        rows, maps = slice(self.number, self.number + 1), self.batch.class_maps
        return RawOutputs(
            tensors=tuple(one[rows] for one in self.batch.tensors),
            class_maps=None if maps is None else maps[rows],
            made_with=self.batch.of_rows[self.number],
        )

    def alone(self) -> RowPass:
        """Return the same with a copy of its outputs, which holds no others' memory."""
        mine = self.outputs
        maps = None if mine.class_maps is None else np.array(mine.class_maps)
        copied = replace(mine, tensors=tuple(map(np.array, mine.tensors)), class_maps=maps)
        return replace(self, batch=copied, number=0)


class KeptPasses:
    """The passes of the rows of one reading, in their order.

    Parameters
    ----------
    most_bytes : int
        From which on there is too much of it.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._rows: dict[int, RowPass] = {}
        self._count = 0
        self.n_bytes = 0

    def __len__(self) -> int:
        """Return how many rows are kept."""
        return len(self._rows)

    @property
    def are_too_many(self) -> bool:
        """Whether those that no picture needs should go."""
        return self.n_bytes > self._most

    def add(self, outputs: RawOutputs | None, size: Shape, placements: Sequence[Placement]) -> None:
        """Take up the next rows.

        Parameters
        ----------
        outputs : RawOutputs or None
            None where a picture cannot use them.
        size : tuple of int
            Rows and columns of the input.
        placements : sequence of Placement
            Of each row.
        """
        if outputs is not None:
            for number, place in enumerate(placements):
                self._rows[self._count + number] = RowPass(outputs, number, size, place)
            self.n_bytes += _bytes_of(outputs)
        self._count += len(placements)

    def keep(self, rows: Collection[int]) -> None:
        """Forget all rows but these; what they need may be more than there should be."""
        self._rows = {row: one.alone() for row, one in self._rows.items() if row in rows}
        self.n_bytes = sum(_bytes_of(one.batch) for one in self._rows.values())
        # Not again with every batch, where those alone are more.
        self._most = max(self._most, 2 * self.n_bytes)

    def of(self, row: int) -> RowPass | None:
        """Return what was given for a row; None if it is not kept."""
        return self._rows.get(row)


def _bytes_of(outputs: RawOutputs) -> int:
    maps = () if outputs.class_maps is None else (outputs.class_maps,)
    return sum(one.nbytes for one in (*outputs.tensors, *maps))
