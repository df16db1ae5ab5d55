"""Batches for a network on a GPU: the next is decoded and uploaded while this one is computed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from ..decode_pool import DecodePool
from ..decoded import Batch
from ..engines.errors import EngineError
from ..engines.torch_faults import faults_typed
from ..errors import NotAnalysableError
from ..input_spec import InputSpec
from ..pixel_notes import count_fallback
from ..pixels import ModalityImage
from ..placement import Placement
from ..reading import SourceImage
from .ahead import ahead
from .device_input import DeviceInput, Picture, Prepared
from .gpu_codec import GpuCodec
from .gpu_frames import gpu_pictures
from .lanes import Lane
from .packed import StoredTask, unpack
from .stored_picture import StoredPicture, host_note

_log = structlog.get_logger()
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


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A batch, and the pictures that it is made of, should the device fail."""

    pictures: Sequence[Picture]
    batch: Batch
    prepared: Prepared | None


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
    codec : GpuCodec or None
        Decodes what it can.
    paths : Counter of str
        How many pictures went which way: ``stored``, of them ``decoded_on_gpu``; or why the host's.
    fallbacks : dict
        How many the first decoder did not read, by transfer syntax; see `count_fallback`.
    """

    spec: InputSpec
    lane: Lane
    decoding: DecodePool
    batch: int
    codec: GpuCodec | None = None
    paths: Counter[str] = field(default_factory=Counter)
    fallbacks: dict[str, object] = field(default_factory=dict)

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
        for waiting in ahead(self._prepared(frames, steps)):
            batch = waiting.batch
            if waiting.prepared is not None:
                try:
                    with faults_typed():
                        flat_one = _is_flat(waiting.prepared) if flat is not None else False
                        waiting.prepared.ready.follow(waiting.prepared.rows)
                except EngineError as error:
                    placements, notes = batch.placements, batch.notes
                    batch = self._on_host(waiting.pictures, placements, notes, steps, error)
                else:
                    if flat is not None and flat_one:
                        raise flat()
            yield batch

    def _prepared(
        self, frames: Iterable[tuple[SourceImage, int]], steps: Steps
    ) -> Iterator[_Waiting]:
        device_input = DeviceInput(self.spec, self.lane)
        pictures = self._pictures(frames)
        while some := list(itertools.islice(pictures, self.batch)):
            rows = [steps.place(one) for one in some]
            steps.check(some, rows)
            placements = tuple(placement for placement, _ in rows)
            notes = tuple((*one.notes, *more) for one, (_, more) in zip(some, rows, strict=True))
            on_host = [
                None if isinstance(one, StoredPicture) else steps.prepare(one, placement)
                for one, placement in zip(some, placements, strict=True)
            ]
            try:
                with faults_typed():
                    prepared = device_input.prepare(some, placements, on_host)
            except EngineError as error:
                batch = self._on_host(some, placements, notes, steps, error)
                yield _Waiting(some, batch, None)
            else:
                yield _Waiting(some, Batch(prepared.rows, notes, placements), prepared)

    def _on_host(
        self,
        pictures: Sequence[Picture],
        placements: tuple[Placement, ...],
        notes: tuple[tuple[str, ...], ...],
        steps: Steps,
        error: EngineError,
    ) -> Batch:
        """Make a batch here: the device has no memory left for its pictures, or is lost.

        The network's ladder comes to know of that by itself, and needs the rows all the more.
        """
        _log.warning("input.on_host", rows=len(pictures), reason=str(error))
        self.paths[error.code] += len(pictures)
        each = zip(pictures, placements, strict=True)
        rows = [steps.prepare(_image(picture), placement) for picture, placement in each]
        return Batch(torch.from_numpy(np.stack(rows)), notes, placements)

    def _pictures(self, frames: Iterable[tuple[SourceImage, int]]) -> Iterator[Picture]:
        if self.codec is None:
            yield from self._pooled(frames)
            return
        coming = iter(frames)
        while some := list(itertools.islice(coming, self.batch)):
            made = gpu_pictures(some, self.spec, self.codec)
            left = [frame for frame, one in zip(some, made, strict=True) if one is None]
            others = self._pooled(left)
            for one in made:
                if isinstance(one, NotAnalysableError):
                    raise one
                if one is None:
                    yield next(others)
                    continue
                self.paths["stored"] += 1
                self.paths["decoded_on_gpu"] += 1
                yield one

    def _pooled(self, frames: Iterable[tuple[SourceImage, int]]) -> Iterator[Picture]:
        given, told = itertools.tee(frames)
        tasks = (StoredTask(image, frame, self.spec) for image, frame in given)
        for decoded, (image, _) in zip(self.decoding.decode(tasks), told, strict=True):
            if isinstance(decoded, NotAnalysableError):
                raise decoded
            count_fallback(self.fallbacks, image.transfer_syntax_uid, decoded.notes)
            picture = unpack(decoded)
            if isinstance(picture, StoredPicture):
                self.paths["stored"] += 1
            else:
                picture, why = host_note(picture)
                self.paths[why] += 1
            yield picture


def _image(picture: Picture) -> ModalityImage:
    if isinstance(picture, StoredPicture):
        return ModalityImage(picture.values, picture.notes, picture.full_range)
    return picture


def _is_flat(prepared: Prepared) -> bool:
    """Wait for films, and tell whether what is shown of one has one value alone."""
    if prepared.contrast is None:
        return False
    prepared.ready.wait()
    return not bool(prepared.contrast.all())
