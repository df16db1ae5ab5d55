"""Films that show nothing: refused when read, left out when learnt from. Light: no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import NotAnalysableError
from .placement import Placement
from .reading import NotAnalysed

if TYPE_CHECKING:
    import torch


def without_contrast() -> NotAnalysableError:
    """Return what a film that shows nothing is refused with."""
    return NotAnalysableError(
        NotAnalysed.UNSUPPORTED_PIXELS,
        "an image has no contrast: nearly all of its pixels have one value",
    )


def check_contrast(
    values: NDArray[np.float32], row: NDArray[np.float32] | torch.Tensor, place: Placement
) -> None:
    """Raise if what is shown of a film has one value alone, in the film or in the input.

    Parameters
    ----------
    values : ndarray of float32, (rows, columns)
        Of the film.
    row : ndarray or tensor of float32, (1, channels, size, size)
        The network's input.
    place : Placement
        What of the film the input shows.

    Raises
    ------
    NotAnalysableError
        ``unsupported_pixels``.
    """
    # Padding is of another value than the picture, and shows nothing.
    down, across = place.inside
    shown = row[..., down, across]
    # What is scaled to the range of its values makes black and white of how a mean was rounded.
    top, left, bottom, right = place.box
    stored = values[top:bottom, left:right]
    if not (_varies(stored) and shown.min() < shown.max()):
        raise without_contrast()


# Rows that are looked at together: nearly every film differs within the first of them.
_TOGETHER = 64


def _varies(values: NDArray[np.float32]) -> bool:
    first = values.flat[0]
    parts = (values[at : at + _TOGETHER] for at in range(0, len(values), _TOGETHER))
    return any(part.min() < first or part.max() > first for part in parts)
