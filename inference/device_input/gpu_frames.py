"""Frames of stored files read by their offset and decoded by a GPU, a batch at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from pydicom.uid import UID

from ..errors import NotAnalysableError
from ..frame_table import UnlocatedError
from ..image_file import open_image
from ..indexed_image import IndexedImage
from ..input_spec import InputSpec
from ..open_source import open_source
from ..reading import SourceImage
from .gpu_codec import Encoded, GpuCodec
from .stored_picture import StoredPicture, picture_of

Frame = tuple[SourceImage, int]


class _Decoded(IndexedImage):
    """An image one frame of which is decoded already."""

    def holding(self, values: NDArray[Any]) -> _Decoded:
        """Return itself with the values of the frame that is asked for next."""
        self.__dict__["values_held"] = values
        return self

    def frame(self, index: int) -> tuple[NDArray[Any], str] | None:
        """Return the values that are held."""
        return self.values_held, str(self.facts.known.value("PhotometricInterpretation"))


def gpu_pictures(
    frames: Sequence[Frame], spec: InputSpec, codec: GpuCodec
) -> list[StoredPicture | NotAnalysableError | None]:
    """Return the pictures of those frames that the GPU decodes; None for the others.

    Parameters
    ----------
    frames : sequence of (SourceImage, int)
        With the facts of their files, else they are left to others.
    spec : InputSpec
    codec : GpuCodec
    """
    found: list[tuple[int, IndexedImage, Encoded]] = []
    for number, (image, index) in enumerate(frames):
        if (encoded := _encoded(image, index, codec)) is not None:
            found.append((number, *encoded))
    made: list[StoredPicture | NotAnalysableError | None] = [None] * len(frames)
    if not found:
        return made
    decoded = codec.decode([encoded for _, _, encoded in found])
    for (number, dataset, _), values in zip(found, decoded, strict=True):
        if values is not None:
            made[number] = _picture(dataset, frames[number][1], values, spec)
    return made


def _encoded(
    image: SourceImage, index: int, codec: GpuCodec
) -> tuple[IndexedImage, Encoded] | None:
    """Return an image and the codestream of a frame, if that is one for the GPU."""
    facts = image.facts
    if facts is None or facts.table is None or (cells := facts.cells) is None:
        return None
    syntax = UID(facts.syntax)
    if not codec.takes(syntax, cells) or not 0 <= index < len(facts.table.spans):
        return None
    try:
        dataset, _ = open_source(image)
        if not isinstance(dataset, IndexedImage) or dataset.facts is not facts:
            return None  # another file is there now
        descriptor = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return dataset, (facts.table.read(descriptor, index), syntax, cells)
        finally:
            os.close(descriptor)
    except (OSError, UnlocatedError, NotAnalysableError):
        return None


def _picture(
    dataset: IndexedImage, index: int, values: NDArray[Any], spec: InputSpec
) -> StoredPicture | NotAnalysableError | None:
    held = _Decoded(dataset.indexed, dataset.facts, open_image).holding(values)
    try:
        picture = picture_of(held, index, spec)
    except NotAnalysableError as error:
        return error
    return picture if isinstance(picture, StoredPicture) else None
