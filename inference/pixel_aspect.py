"""The shape of one pixel: PS3.3 10.7.1.3 (Pixel Spacing) and C.7.6.3.1.7 (Pixel Aspect Ratio)."""

from __future__ import annotations

from pydicom import Dataset

from .functional_groups import element, frame_element, numbers

# A pixel that is longer than this by its header is a slip of the pen.
_MOST_ASPECT = 8.0

# Where the distances of pixels stand: in the patient, then in the detector's plane.
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
# Sides that differ by less than this share are rounded, not different.
_SQUARE = 0.01


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


def is_square(dataset: Dataset, frame: int) -> bool:
    """Return whether the pixels of a frame are square, as far as its header tells."""
    return abs(pixel_aspect(dataset, frame) - 1.0) <= _SQUARE
