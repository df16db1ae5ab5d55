"""Films that show nothing: refused when read, left out when learnt from. Light: no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import NotAnalysableError
from .placement import Placement
from .reading import NotAnalysed
from .stored_plane import Piece, Plane, in_pieces

if TYPE_CHECKING:
    import torch


def without_contrast() -> NotAnalysableError:
    """Return what a film that shows nothing is refused with."""
    return NotAnalysableError(
        NotAnalysed.UNSUPPORTED_PIXELS,
        "an image has no contrast: nearly all of its pixels have one value",
    )


def check_contrast(plane: Plane, row: NDArray[np.float32] | torch.Tensor, place: Placement) -> None:
    """Raise if what is shown of a film has one value alone, in the film or in the input.

    Parameters
    ----------
    plane : ndarray of float32, or StoredPlane, (rows, columns)
        The film.
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
    cells, piece = in_pieces(plane)
    if not (_varies(cells[top:bottom, left:right], piece) and shown.min() < shown.max()):
        raise without_contrast()


# Rows that are looked at together: nearly every film differs within the first of them.
_TOGETHER = 64


def _varies(cells: NDArray[Any], piece: Piece) -> bool:
    room = np.empty((min(len(cells), _TOGETHER), cells.shape[1]), dtype=np.float32)
    first = None
    for at in range(0, len(cells), _TOGETHER):
        some = cells[at : at + _TOGETHER]
        values = piece(some, room[: len(some)])
        first = float(values[0, 0]) if first is None else first
        if values.min() < first or values.max() > first:
            return True
    return False
