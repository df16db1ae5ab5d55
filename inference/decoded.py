"""What is made of stored images on their way to a network, and to the eye of a person.

Light: no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .decode_task import DecodeTask
from .engines import Rows
from .input_spec import InputSpec
from .pixels import ModalityImage
from .placement import Placement


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the input.

    Attributes
    ----------
    tensor : ndarray of float32, (rows, channels, size, size)
        A tensor of torch where the device is not the CPU.
    notes : tuple of tuple of str
        What was done to the pixels of each row.
    placements : tuple of Placement
        What of the source of each row the input shows.
    """

    tensor: Rows
    notes: tuple[tuple[str, ...], ...]
    placements: tuple[Placement, ...]


# Values of a large film are 14 MB, and a study has one or two.
_RECENT_BYTES = 32 << 20


@dataclass(slots=True, eq=False)
class RecentImages:
    """The frames that were decoded last, for pictures of them: a film is decoded once.

    Always one; of more, what takes no more than `_RECENT_BYTES` together.
    """

    _kept: dict[tuple[str, int, InputSpec], ModalityImage] = field(default_factory=dict)

    def note(self, task: DecodeTask, image: ModalityImage) -> None:
        """Keep what became of a task, in the place of the oldest."""
        self._kept[_key(task)] = image
        room = sum(one.plane.nbytes for one in self._kept.values()) - _RECENT_BYTES
        for key in list(self._kept)[:-1]:
            if room <= 0:
                break
            room -= self._kept.pop(key).plane.nbytes

    def of(self, task: DecodeTask) -> ModalityImage | None:
        """Return what would become of a task, if it is one of them; nobody may change it."""
        return self._kept.get(_key(task))


def _key(task: DecodeTask) -> tuple[str, int, InputSpec]:
    return task.image.sop_instance_uid, task.frame, task.spec


@dataclass(frozen=True, slots=True)
class Decoded:
    """Images that passed the gate, on their way to the network.

    Attributes
    ----------
    uids : tuple of str
        SOP Instance UID of each row; an image of several frames has several rows.
    frames : tuple of int
        Frame of each row, from 0.
    batches : iterator of Batch
        The rows in order, decoded as they are asked for, so that memory does not grow with them.
    positions_mm : ndarray of float64, (rows,)
        Position along the normal; zeros for radiographs.
    headers : tuple of Dataset
        Of each image, in the order of the rows, without pixels and as they came.
    facts : mapping
        What the headers said.
    pixel_ml : ndarray of float64, (rows,), or None
        Volume of one pixel of each row, where the headers tell.
    recent : RecentImages
        Of the batches until now; of radiographs that are prepared on the host.
    """

    uids: tuple[str, ...]
    frames: tuple[int, ...]
    batches: Iterator[Batch]
    positions_mm: NDArray[np.float64]
    headers: tuple[Dataset, ...]
    facts: Mapping[str, object] = field(default_factory=dict)
    pixel_ml: NDArray[np.float64] | None = None
    recent: RecentImages = field(default_factory=RecentImages)


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """An image as a person sees it; attributes as of `Illustration`."""

    pixels: NDArray[np.uint8]
    window: str
    pixel_aspect: float


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image decoded once more, to be shown.

    Attributes
    ----------
    pixels, window, pixel_aspect
        As of `Shown`.
    tensor : ndarray or Tensor of float32, (1, channels, size, size)
        What the network saw of it.
    placement : Placement
        Which part of it that is.
    """

    pixels: NDArray[np.uint8]
    window: str
    pixel_aspect: float
    tensor: Rows
    placement: Placement
