"""What the readers of films and of slices decide on the host, picture by picture.

Boxes around heads and lungs are found here, from values that are looked up for that: they decide
what a network sees at all, and must not depend on how a device rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import NotAnalysableError
from ..head_seen import HeadSeen
from ..input_spec import InputSpec
from ..pixel_notes import PixelNote
from ..pixels import ModalityImage
from ..placement import Placement
from ..preprocess import place_ct, place_radiograph, prepare_ct, prepare_radiograph
from ..reading import NotAnalysed
from .device_input import Picture
from .feed import Placed, Steps
from .stored_picture import StoredPicture

_CPU = torch.device("cpu")


class SliceSteps(Steps):
    """Of slices: whether there is contrast, and a head.

    Parameters
    ----------
    spec : InputSpec
        Of kind ``ct_slices``.
    seen : HeadSeen or None
        What looks for a head, where one is wanted.
    """

    def __init__(self, spec: InputSpec, seen: HeadSeen | None) -> None:
        self._spec = spec
        self._seen = seen
        self.contrast = False

    def place(self, picture: Picture) -> Placed:
        """Return what to show of a slice; see `Steps`."""
        values = _values_if(self._spec.crop == "head", picture)
        return place_ct(values[None], self._spec, _CPU)[0], ()

    def prepare(self, image: ModalityImage, placement: Placement) -> NDArray[np.float32]:
        """Make a row on the host; see `Steps`."""
        made = prepare_ct(image.values[None], self._spec, _CPU, [placement])
        return np.asarray(made[0], dtype=np.float32)

    def check(self, pictures: Sequence[Picture], rows: Sequence[Placed]) -> None:
        """Look at the slices of a batch; they are judged when all have been seen."""
        self.contrast = self.contrast or any(map(_differs, pictures))
        if self._seen is not None:
            # A picture becomes an array where it is looked at, which few are.
            each = [one if isinstance(one, StoredPicture) else one.values for one in pictures]
            self._seen.look(cast(NDArray[np.float32], each))


class FilmSteps(Steps):
    """Of films: each must have contrast, and a range where its intensity goes by that.

    Parameters
    ----------
    spec : InputSpec
        Of kind ``radiograph``.
    flat : callable
        Gives the error for a film without contrast.
    """

    def __init__(self, spec: InputSpec, flat: Callable[[], NotAnalysableError]) -> None:
        self._spec = spec
        self.flat = flat

    def place(self, picture: Picture) -> Placed:
        """Return what to show of a film; see `Steps`."""
        placement = place_radiograph(_values_if(self._spec.crop == "lungs", picture), self._spec)
        missed = self._spec.crop == "lungs" and placement.whole_source
        return placement, (PixelNote.LUNGS_NOT_FOUND,) if missed else ()

    def prepare(self, image: ModalityImage, placement: Placement) -> NDArray[np.float32]:
        """Make a row on the host; see `Steps`."""
        made = prepare_radiograph(image.values, self._spec, _CPU, placement, image.full_range)
        return np.asarray(made[0], dtype=np.float32)

    def check(self, pictures: Sequence[Picture], rows: Sequence[Placed]) -> None:
        """Refuse films without a range, or without contrast in what is shown of them.

        Raises
        ------
        NotAnalysableError
            UNSUPPORTED_PIXELS.
        """
        for picture, (placement, _) in zip(pictures, rows, strict=True):
            if self._spec.intensity == "full_range" and picture.full_range is None:
                raise NotAnalysableError(
                    NotAnalysed.UNSUPPORTED_PIXELS,
                    "the pixels are no whole numbers of known range",
                )
            if not _differs(picture, placement):
                raise self.flat()


def _values_if(needed: bool, picture: Picture) -> NDArray[np.float32]:
    """Return the values of a picture; without need of them, something of its shape."""
    if needed:
        return picture.values
    shape = picture.shape if isinstance(picture, StoredPicture) else picture.values.shape
    return np.broadcast_to(np.float32(0.0), shape)


def _differs(picture: Picture, placement: Placement | None = None) -> bool:
    """Tell whether a picture, or what is shown of it, has two values."""
    if isinstance(picture, StoredPicture):
        whole = (0, 0, *picture.shape)
        return picture.has_contrast(placement.box if placement is not None else whole)
    part = picture.values
    if placement is not None:
        top, left, bottom, right = placement.box
        part = part[top:bottom, left:right]
    return bool(part.min() < part.max())
