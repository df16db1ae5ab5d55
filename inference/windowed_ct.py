"""CT slices that are windowed pictures: screenshots and web pictures in the header of a CT image.

Their greys are no Hounsfield units, and a reader that takes them for such sees a head full of
blood. The greys are mapped back through the window that they were made with, as far as that can be
known; what the window cut off, air and bone, stays at its ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .functional_groups import items, whole_number
from .pixel_notes import PixelNote
from .voi import header_window
from .windows import BRAIN, VoiLutFunction, Window

_WHITE = 255
# A window of Hounsfield units, by what scanners and people set: others are slips, or of greys.
_NARROWEST, _WIDEST = 10.0, 4096.0
_LOWEST_CENTER, _HIGHEST_CENTER = -1024.0, 3071.0
# A window whose ends are this near to black and white shows the greys as they are.
_SAME_GREYS = 3.0
# 8 bits with slope 1 span 255: with their highest value below this they hold lung and air alone.
_LEAST_TISSUE = -200.0
# Share of the pixels that is white where a picture of a head stands in wider cells: its skull.
_LEAST_WHITE = 0.005
# Colours that differ by no more than lossy compression of greys leaves.
_SAME_COLOUR = 2


def is_windowed(dataset: Dataset, stored: NDArray[Any], slope: float, intercept: float) -> bool:
    """Return whether grey stored values are a picture of 8 bits and no measurement.

    So are unsigned values of 8 bits with slope 1 and an intercept of 0, or one that was left over
    from the image of before and would make all of them air. So are values in wider cells, slope 1
    and intercept 0, that reach from 0 to exactly 255 with a share that is cut off there. An image
    of 8 bits with another slope, another intercept or a Modality LUT is a measurement.
    """
    bits = whole_number(dataset, "BitsStored") or stored.dtype.itemsize * 8
    if (
        stored.dtype.kind not in "iu"
        or whole_number(dataset, "PixelRepresentation") == 1
        or items(dataset, "ModalityLUTSequence")
        or slope != 1.0
    ):
        return False
    if bits <= 8:
        return intercept == 0.0 or intercept + _WHITE < _LEAST_TISSUE
    if intercept != 0.0 or int(stored.min()) != 0 or int(stored.max()) != _WHITE:
        return False
    return bool((stored == _WHITE).mean() >= _LEAST_WHITE)


def is_grey(stored: NDArray[Any]) -> bool:
    """Return whether red, green and blue, (rows, columns, 3 or 4), are one everywhere."""
    channels = stored[..., :3].astype(np.int32)
    return int(np.ptp(channels, axis=-1).max()) <= _SAME_COLOUR


def restored_units(
    greys: NDArray[Any], dataset: Dataset, frame: int, *, inverted: bool
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return Hounsfield units for greys, and what was assumed.

    Parameters
    ----------
    greys : ndarray, (rows, columns)
        0 to 255.
    dataset : Dataset
        With the window, if it has one. Without, or with one that cannot be of Hounsfield units, it
        was the brain window: 0 becomes 0 HU, 255 becomes 80 HU.
    frame : int
        From 0.
    inverted : bool
        Low values are white (MONOCHROME1).
    """
    share = greys.astype(np.float32) / np.float32(_WHITE)
    notes: tuple[str, ...] = (PixelNote.WINDOWED_8_BIT_RESTORED,)
    if inverted:
        share, notes = np.float32(1.0) - share, (*notes, PixelNote.MONOCHROME1_INVERTED)
    window = header_window(dataset, frame)
    if window is None or not _is_of_units(window):
        window, notes = BRAIN, (*notes, PixelNote.BRAIN_WINDOW_ASSUMED)
    return _before(window, share), notes


def _is_of_units(window: Window) -> bool:
    low, high = _ends(window)
    of_greys = abs(low) <= _SAME_GREYS and abs(high - _WHITE) <= _SAME_GREYS
    return (
        _NARROWEST <= window.width <= _WIDEST
        and _LOWEST_CENTER <= window.center <= _HIGHEST_CENTER
        and not of_greys
    )


def _before(window: Window, share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the values that a window shows as `share`, 0 to 1."""
    if window.function is VoiLutFunction.SIGMOID:
        # Half a grey from either end: black and white are infinitely far.
        inner = share.clip(0.5 / _WHITE, 1.0 - 0.5 / _WHITE)
        return np.float32(window.center) - np.float32(window.width / 4.0) * np.log(
            np.float32(1.0) / inner - np.float32(1.0)
        )
    low, high = _ends(window)
    return np.float32(low) + share * np.float32(high - low)


def _ends(window: Window) -> tuple[float, float]:
    """Return where black and white begin (PS3.3 C.11.2.1.2.1, C.11.2.1.3.2)."""
    if window.function is VoiLutFunction.LINEAR:
        half = (window.width - 1.0) / 2.0
        return window.center - 0.5 - half, window.center - 0.5 + half
    return window.center - window.width / 2.0, window.center + window.width / 2.0
