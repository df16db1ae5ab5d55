"""How far apart the pixels of a frame are: PS3.3 10.7.1.1 (Pixel Spacing) and C.8.11.7.1."""

from __future__ import annotations

from pydicom import Dataset

from .functional_groups import frame_element, numbers

# In the patient, then in the plane of the detector, where all is a little larger.
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
# Beyond these a header holds a slip of the pen.
_LEAST_MM, _MOST_MM = 0.001, 20.0


def pixel_spacing_mm(dataset: Dataset, frame: int) -> tuple[float, float] | None:
    """Return the distance of rows and of columns in mm; None where the header does not tell."""
    for keyword in _SPACINGS:
        pair = numbers(frame_element(dataset, frame, "PixelMeasuresSequence", keyword), 2)
        if pair is not None and all(_LEAST_MM <= side <= _MOST_MM for side in pair):
            return pair[0], pair[1]
    return None
