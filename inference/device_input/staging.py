"""Memory that is uploaded from, used in turns: one is filled while the other is on its way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .lanes import Lane, Mark

# Types of a GPU's memory begin at such multiples; a copy of them is fast.
_ALIGNED = 256
_TYPES = {
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    # The same bits: torch computes with few unsigned types.
    "uint16": torch.int16,
    "int64": torch.int64,
    "float32": torch.float32,
}


class Staging:
    """Uploads arrays, a batch of them in one copy.

    For one thread. Nothing is overwritten before its copy has ended.

    Parameters
    ----------
    lane : Lane
    turns : int
        How many batches may be on their way.
    """

    def __init__(self, lane: Lane, turns: int = 2) -> None:
        self._lane = lane
        self._memory: list[torch.Tensor | None] = [None] * turns
        self._marks: list[Mark | None] = [None] * turns
        self._turn = 0

    def upload(self, arrays: Sequence[NDArray[Any]]) -> tuple[torch.Tensor, ...]:
        """Begin to copy arrays to the device, and return them there.

        Parameters
        ----------
        arrays : sequence of ndarray
            Of 8 or 16-bit integers, int64 or float32. They may change once this returns.

        Returns
        -------
        tuple of Tensor
            Of the same shapes, for what is launched on the lane after this; uint16 as int16.
        """
        places, length = [], 0
        for array in arrays:
            places.append(length)
            length += -(-array.nbytes // _ALIGNED) * _ALIGNED
        memory = self._free(length)
        host = memory.numpy()
        for array, at in zip(arrays, places, strict=True):
            there = host[at : at + array.nbytes].view(array.dtype.newbyteorder("="))
            np.copyto(there.reshape(array.shape), array)
        there_ = self._lane.upload(memory[:length])
        self._marks[self._turn] = self._lane.mark()
        self._turn = (self._turn + 1) % len(self._memory)
        return tuple(
            there_[at : at + array.nbytes].view(_TYPES[array.dtype.name]).view(array.shape)
            for array, at in zip(arrays, places, strict=True)
        )

    def _free(self, length: int) -> torch.Tensor:
        """Return memory whose last copy has ended, of this length or more."""
        if (mark := self._marks[self._turn]) is not None:
            mark.wait()
        memory = self._memory[self._turn]
        if memory is None or len(memory) < length:
            # Pinning is slow: in powers of two it is seldom.
            memory = self._lane.memory(1 << max(length - 1, 1).bit_length())
            self._memory[self._turn] = memory
        return memory
