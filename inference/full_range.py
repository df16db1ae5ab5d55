"""Which values the pixels of a projection image have room for, whatever they are."""

from __future__ import annotations

from pydicom import Dataset

from .functional_groups import element, items, numbers, rescale, whole_number
from .stored_frame import StoredFrame

FullRange = tuple[float, float]


def full_range_of(frame: StoredFrame, dataset: Dataset, index: int) -> FullRange | None:
    """Return the lowest and highest value that Bits Stored (0028,0101) has room for.

    Parameters
    ----------
    frame : StoredFrame
    dataset : Dataset
        Where it is from.
    index : int
        Which of its frames, from 0.

    Returns
    -------
    tuple of float, or None
        Of grey: after the Modality LUT or the rescale (PS3.3 C.11.1). Of colour: of its luminance.
        None for floating-point pixels, and for tables that do not say how wide they are.

    Raises
    ------
    NotAnalysableError
        UNSUPPORTED_PIXELS if the rescale is no finite number.
    """
    if frame.values.dtype.kind not in "iu":
        return None
    cell = frame.values.dtype.itemsize * 8
    bits = min(max(whole_number(dataset, "BitsStored") or cell, 1), cell)
    if frame.photometric == "PALETTE COLOR":
        return _of_table(dataset, "RedPaletteColorLookupTableDescriptor")
    if frame.coloured:
        return 0.0, 2.0**bits - 1.0
    if luts := items(dataset, "ModalityLUTSequence"):
        return _of_table(luts[0], "LUTDescriptor")
    low = -(2.0 ** (bits - 1)) if frame.values.dtype.kind == "i" else 0.0
    high = low + 2.0**bits - 1.0
    slope, intercept, _ = rescale(dataset, index)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]


def turned(full_range: FullRange | None, total: float) -> FullRange | None:
    """Return the range of values that were each taken from `total`, as an inversion does."""
    return None if full_range is None else (total - full_range[1], total - full_range[0])


def _of_table(holder: Dataset, descriptor: str) -> FullRange | None:
    described = numbers(element(holder, descriptor), 3)
    if described is None or not 8.0 <= described[2] <= 16.0:
        return None
    return 0.0, 2.0 ** described[2] - 1.0
