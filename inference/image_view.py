"""An image as a person asks to see it: under any window, inverted, any frame. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue

from .criteria import Criteria
from .display import pixel_aspect, show_radiograph, show_slice, window_text
from .errors import InferenceError
from .functional_groups import frame_element, number
from .image_file import frame_count
from .input_spec import InputSpec
from .pixel_facts import is_ct, modality_image
from .pixels import ModalityImage
from .suitability import check_image
from .windows import SOFT, VoiLutFunction, Window, parse_window

# Radiographs without a window asked for are shown as their header says, no polarity guessed.
_AS_TAGGED = InputSpec("radiograph", 64)
# The header's own first window, by this name.
HEADER = "header"


@dataclass(frozen=True, slots=True, eq=False)
class ImageView:
    """A picture of one frame.

    Attributes
    ----------
    pixels : ndarray of uint8, (rows, columns)
        Black is 0.
    label : str
        How it was windowed.
    pixel_aspect : float
        Height of a pixel over its width.
    """

    pixels: NDArray[np.uint8]
    label: str
    pixel_aspect: float


def header_windows(dataset: Dataset, frame: int = 0) -> tuple[Window, ...]:
    """Return the windows of a header (PS3.3 C.11.2.1.2), with its names for them.

    Those whose values are damaged, or no window, are left out.
    """

    def values(keyword: str) -> Sequence[object]:
        value = frame_element(dataset, frame, "FrameVOILUTSequence", keyword)
        return list(value) if isinstance(value, MultiValue) else [value]

    names = values("WindowCenterWidthExplanation")
    function = str(values("VOILUTFunction")[0] or VoiLutFunction.LINEAR)
    found = []
    for at, (c, w) in enumerate(zip(values("WindowCenter"), values("WindowWidth"), strict=False)):
        center, width = number(c), number(w)
        name = str(names[at] or "") if at < len(names) else ""
        try:
            if center is not None and width is not None:
                found.append(Window(center, width, name, VoiLutFunction(function)))
        except ValueError:
            continue
    return tuple(found)


def window_named(text: str, dataset: Dataset, frame: int = 0) -> Window:
    """Return the window that a person asks for.

    Parameters
    ----------
    text : str
        ``CENTER/WIDTH``, a name of `windows.NAMED`, ``header``, or a name that the header gives.

    Raises
    ------
    InferenceError
        If there is none such; the message lists what there is.
    """
    own = header_windows(dataset, frame)
    if text.strip().lower() == HEADER:
        if not own:
            raise InferenceError("the header has no window (0028,1050)")
        return own[0]
    for window in own:
        if window.name and window.name.lower() == text.strip().lower():
            return window
    try:
        return parse_window(text)
    except ValueError as error:
        listed = ", ".join(window.name for window in own if window.name)
        more = f"; the header's own: {listed}" if listed else ""
        raise InferenceError(f"{error}{more}") from None


def view_of(
    dataset: Dataset, frame: int = 0, window: Window | None = None, invert: bool = False
) -> ImageView:
    """Return a frame as a picture.

    Without a window a CT slice has that of its header, else ``soft``; other images are shown as
    their header says, else spread between percentiles.

    Parameters
    ----------
    frame : int
        From 0.
    invert : bool
        Black for white.

    Raises
    ------
    InferenceError
        If there is no such frame, or it cannot be decoded.
    """
    check_image(dataset, Criteria(min_rows=1))
    if not 0 <= frame < (count := frame_count(dataset)):
        raise InferenceError(f"there is no frame {frame + 1}; the image has {count}")
    image = modality_image(dataset, frame)
    if window is None and is_ct(dataset):
        window = next(iter(header_windows(dataset, frame)), SOFT)
    if window is None:
        pixels, label = show_radiograph(image, dataset, frame, _AS_TAGGED), ""
    else:
        pixels, label = _windowed(image, window), window_text(window)
    if invert:
        pixels, label = 255 - pixels, f"{label} inverted".strip()
    return ImageView(pixels, label, pixel_aspect(dataset, frame))


def _windowed(image: ModalityImage, window: Window) -> NDArray[np.uint8]:
    """Window the values as they were before MONOCHROME1 was turned round (PS3.3 C.7.6.3.1.2)."""
    values = image.values
    if "monochrome1_inverted" not in image.notes:
        return show_slice(values, window)
    return 255 - show_slice(values.max() + values.min() - values, window)
