"""Batches for a network on a GPU: the next is decoded and uploaded while this one is computed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..decode_pool import DecodePool
from ..decoded import Batch
from ..errors import NotAnalysableError
from ..input_spec import InputSpec
from ..pixels import ModalityImage
from ..placement import Placement
from ..reading import SourceImage
from .ahead import ahead
from .device_input import DeviceInput, Picture, Prepared
from .lanes import Lane
from .packed import StoredTask, unpack
from .stored_picture import StoredPicture, host_note

# What to show of a picture, and what is noted of that.
Placed = tuple[Placement, tuple[str, ...]]


class Steps(Protocol):
    """What is decided on the host, in the thread that runs ahead."""

    def place(self, picture: Picture) -> Placed:
        """Return what to show of a picture."""
        ...

    def prepare(self, image: ModalityImage, placement: Placement) -> NDArray[np.float32]:
        """Return the row, (channels, size, size), of a picture without a table."""
        ...

    def check(self, pictures: Sequence[Picture], rows: Sequence[Placed]) -> None:
        """Look at the pictures of a batch, in order; may refuse them."""
        ...


@dataclass(slots=True)
class Feed:
    """Makes the batches of one reading on a device.

    Attributes
    ----------
    spec : InputSpec
    lane : Lane
    decoding : DecodePool
    batch : int
        Rows of a batch.
    paths : Counter of str
        How many pictures went which way: ``stored``, or why the host's.
    """

    spec: InputSpec
    lane: Lane
    decoding: DecodePool
    batch: int
    paths: Counter[str] = field(default_factory=Counter)

    def batches(
        self,
        frames: Iterable[tuple[SourceImage, int]],
        steps: Steps,
        flat: Callable[[], NotAnalysableError] | None = None,
    ) -> Iterator[Batch]:
        """Yield the batches of some frames, in their order.

        Parameters
        ----------
        frames : iterable of (SourceImage, int)
        steps : Steps
        flat : callable, optional
            Gives the error for a row without contrast, where that is one.

        Raises
        ------
        NotAnalysableError
            When the turn of a frame has come that cannot be read.
        """
        for prepared, batch in ahead(self._prepared(frames, steps)):
            if flat is not None and prepared.contrast is not None:
                prepared.ready.wait()
                if not bool(prepared.contrast.all()):
                    raise flat()
            prepared.ready.follow(prepared.rows)
            yield batch

    def _prepared(
        self, frames: Iterable[tuple[SourceImage, int]], steps: Steps
    ) -> Iterator[tuple[Prepared, Batch]]:
        device_input = DeviceInput(self.spec, self.lane)
        pictures = self._pictures(frames)
        while some := list(itertools.islice(pictures, self.batch)):
            rows = [steps.place(one) for one in some]
            steps.check(some, rows)
            placements = tuple(placement for placement, _ in rows)
            on_host = [
                None if isinstance(one, StoredPicture) else steps.prepare(one, placement)
                for one, placement in zip(some, placements, strict=True)
            ]
            prepared = device_input.prepare(some, placements, on_host)
            notes = tuple((*one.notes, *more) for one, (_, more) in zip(some, rows, strict=True))
            yield prepared, Batch(prepared.rows, notes, placements)

    def _pictures(self, frames: Iterable[tuple[SourceImage, int]]) -> Iterator[Picture]:
        tasks = (StoredTask(image, frame, self.spec) for image, frame in frames)
        for decoded in self.decoding.decode(tasks):
            if isinstance(decoded, NotAnalysableError):
                raise decoded
            picture = unpack(decoded)
            if isinstance(picture, StoredPicture):
                self.paths["stored"] += 1
            else:
                picture, why = host_note(picture)
                self.paths[why] += 1
            yield picture
