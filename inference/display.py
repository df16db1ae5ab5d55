"""Images as a person looks at them: windowed, black is 0, with the shape of their pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue

from .functional_groups import element, frame_element, items, number, numbers
from .input_spec import InputSpec
from .pixels import ModalityImage
from .polarity import looks_negative
from .windows import VoiLutFunction, Window

# Share of the pixels at either end that become black and white where the header has no window.
_TAIL = 0.5
# Pixels looked at for that; more change nothing that is seen.
_SAMPLES = 1_000_000
# A header's window is believed if so many of the pixels are neither black nor white ...
_LEAST_GREY = 0.2
# ... and the greys of the picture are spread over so much of the scale.
_LEAST_SPREAD = 0.05
# A pixel that is longer than this by its header is a slip of the pen.
_MOST_ASPECT = 8.0

# Where the distances of pixels stand: in the patient, then in the detector's plane.
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


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


def pixel_aspect(dataset: Dataset, frame: int) -> float:
    """Return the height of a pixel over its width (PS3.3 10.7.1.3, C.7.6.3.1.7); 1 if not known."""
    candidates = [
        frame_element(dataset, frame, "PixelMeasuresSequence", keyword) for keyword in _SPACINGS
    ]
    for value in (*candidates, element(dataset, "PixelAspectRatio")):
        pair = numbers(value, 2)
        if pair is not None and min(pair) > 0.0:
            aspect = pair[0] / pair[1]
            if 1.0 / _MOST_ASPECT <= aspect <= _MOST_ASPECT:
                return aspect
    return 1.0


def _by_header(image: ModalityImage, dataset: Dataset, frame: int) -> NDArray[np.float32] | None:
    """Apply the first VOI LUT or else the first window (PS3.3 C.11.2); None if there is none."""
    inverted = "monochrome1_inverted" in image.notes
    if inverted and "padding_replaced" in image.notes:
        return None  # between which extremes it was inverted can no longer be told
    values = image.values
    if inverted:
        values = values.max() + values.min() - values
    shown = _by_lut(values, dataset)
    if shown is None and (window := _header_window(dataset, frame)) is not None:
        shown = window.apply(values)
    return shown if shown is None or not inverted else np.float32(1.0) - shown


def _by_lut(values: NDArray[np.float32], dataset: Dataset) -> NDArray[np.float32] | None:
    """Apply the first VOI LUT (PS3.3 C.11.2.1.1); None if there is none, or it is damaged.

    pydicom's own function counts the entries of an 8-bit table in 8 bits, where they may be 4096.
    """
    luts = items(dataset, "VOILUTSequence")
    descriptor = numbers(element(luts[0], "LUTDescriptor"), 3) if luts else None
    if descriptor is None or not 8.0 <= descriptor[2] <= 16.0:
        return None
    count, first = int(descriptor[0]) or 65_536, descriptor[1]
    if first >= 32_768.0 and float(values.min()) < 0.0:
        first -= 65_536.0  # it has the sign of the pixels, whatever VR it was read with
    table = _table(element(luts[0], "LUTData"), count)
    if table is None:
        return None
    index = (np.rint(values) - np.float32(first)).clip(0, count - 1).astype(np.int64)
    return table[index] / np.float32(2.0 ** descriptor[2] - 1.0)


def _table(data: object, count: int) -> NDArray[np.float32] | None:
    """Return the entries of a lookup table: numbers, or bytes of one or two for each."""
    try:
        if isinstance(data, bytes):
            kind = "<u2" if len(data) >= 2 * count else "u1"
            table = np.frombuffer(data, dtype=kind).astype(np.float32)
        else:
            table = np.array(data, dtype=np.float32)
    except (TypeError, ValueError):
        return None
    return table[:count] if table.ndim == 1 and len(table) >= count > 0 else None


def _header_window(dataset: Dataset, frame: int) -> Window | None:
    def first(keyword: str) -> object:
        value = frame_element(dataset, frame, "FrameVOILUTSequence", keyword)
        return value[0] if isinstance(value, MultiValue) else value

    center, width = number(first("WindowCenter")), number(first("WindowWidth"))
    if center is None or width is None:
        return None
    try:
        function = VoiLutFunction(str(first("VOILUTFunction") or VoiLutFunction.LINEAR))
        return Window(center, width, function=function)
    except ValueError:  # a width that no function takes, or an unknown function
        return None


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
