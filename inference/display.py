"""Images as a person looks at them: windowed, black is 0, with the shape of their pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .input_spec import InputSpec
from .intensity_spec import Intensity
from .pixel_aspect import pixel_aspect
from .pixel_notes import PixelNote
from .pixels import ModalityImage
from .polarity import looks_negative
from .voi import voi_greys
from .windows import SOFT, VoiLutFunction, Window

__all__ = ["pixel_aspect", "show_radiograph", "show_slice", "window_of_steps", "window_text"]

# Share of the pixels at either end that become black and white where the header has no window.
_TAIL = 0.5
# Pixels looked at for that; more change nothing that is seen.
_SAMPLES = 1_000_000
# A header's window is believed if so many of the pixels are neither black nor white ...
_LEAST_GREY = 0.2
# ... and the greys of the picture are spread over so much of the scale.
_LEAST_SPREAD = 0.05


def show_radiograph(
    image: ModalityImage, dataset: Dataset, frame: int, spec: InputSpec
) -> NDArray[np.uint8]:
    """Return a projection image as a radiologist sees it, bone white.

    The VOI LUT or window of the header is used if the picture is no worse for it, else the greys
    are spread between percentiles. What MONOCHROME1 says and a correction of the polarity hold.

    Parameters
    ----------
    image : ModalityImage
        Of the same frame of `dataset`; tissue and bone high.
    dataset : Dataset
    frame : int
        From 0.
    spec : InputSpec
        Of kind ``radiograph``.

    Returns
    -------
    ndarray of uint8, (rows, columns)
    """
    shown = _by_header(image, dataset, frame)
    if shown is None or not _is_sane(shown):
        shown = _by_percentiles(image.values)
    if spec.polarity == "chest" and looks_negative(image.values):
        shown = np.float32(1.0) - shown
    return _grey(shown)


def show_slice(hu: NDArray[np.float32], window: Window) -> NDArray[np.uint8]:
    """Return Hounsfield units, (rows, columns), under a window."""
    return _grey(window.apply(hu))


def window_text(window: Window) -> str:
    """Return a window as people name it: name, centre, width."""
    name = window.name.encode("ascii", "replace").decode("ascii")
    return f"{name} {window.center:g}/{window.width:g}".strip()


def window_of_steps(steps: Sequence[Intensity]) -> Window:
    """Return the window that shows what a network sees: its first range of HU, or soft tissue."""
    for step in steps:
        if step.kind == "range" and step.source is not None:
            low, high = step.source
            return Window((low + high) / 2.0, high - low, "model", VoiLutFunction.LINEAR_EXACT)
    return SOFT


def _by_header(image: ModalityImage, dataset: Dataset, frame: int) -> NDArray[np.float32] | None:
    """Apply the first VOI LUT or else the first window (PS3.3 C.11.2); None if there is none."""
    inverted = PixelNote.MONOCHROME1_INVERTED in image.notes
    if inverted and PixelNote.PADDING_REPLACED in image.notes:
        return None  # between which extremes it was inverted can no longer be told
    values = image.values
    if inverted:
        values = values.max() + values.min() - values
    shown = voi_greys(values, dataset, frame)
    return shown if shown is None or not inverted else np.float32(1.0) - shown


def _is_sane(shown: NDArray[np.float32]) -> bool:
    sample = _sampled(shown)
    grey = float(((sample > 0.02) & (sample < 0.98)).mean())
    return grey >= _LEAST_GREY and float(sample.std()) >= _LEAST_SPREAD


def _by_percentiles(values: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.percentile(_sampled(values), [_TAIL, 100.0 - _TAIL])
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros_like(values)
    return ((values - np.float32(low)) / np.float32(high - low)).clip(0.0, 1.0)


def _sampled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    step = max(1, int(np.sqrt(values.size / _SAMPLES)))
    return values[::step, ::step]


def _grey(shown: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(shown.clip(0.0, 1.0) * np.float32(255.0)).astype(np.uint8)
