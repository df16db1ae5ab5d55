"""What the header says of grey levels: VOI LUT and window (PS3.3 C.11.2), for those who ask.

No network's input depends on it unless its bundle says so; what a person is shown does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue

from .functional_groups import frame_element, items, number, transfer_syntax
from .lookup_tables import lookup_table
from .windows import VoiLutFunction, Window


def voi_greys(
    values: NDArray[np.float32], dataset: Dataset, frame: int
) -> NDArray[np.float32] | None:
    """Apply the first VOI LUT or else the first window of a frame; None if it has neither.

    Parameters
    ----------
    values : ndarray of float32, (rows, columns)
        Modality values as they stand in the file, before any inversion.
    dataset : Dataset
    frame : int
        From 0.

    Returns
    -------
    ndarray of float32, (rows, columns), or None
        0 to 1.
    """
    shown = _by_lut(values, dataset)
    if shown is None and (window := header_window(dataset, frame)) is not None:
        shown = window.apply(values)
    return shown


def header_window(dataset: Dataset, frame: int) -> Window | None:
    """Return the first window of a frame; None if there is none that its function takes."""

    def first(keyword: str) -> object:
        value = frame_element(dataset, frame, "FrameVOILUTSequence", keyword)
        return value[0] if isinstance(value, MultiValue | list) else value

    center, width = number(first("WindowCenter")), number(first("WindowWidth"))
    if center is None or width is None:
        return None
    try:
        function = VoiLutFunction(str(first("VOILUTFunction") or VoiLutFunction.LINEAR))
        return Window(center, width, function=function)
    except ValueError:  # a width that no function takes, or an unknown function
        return None


def _by_lut(values: NDArray[np.float32], dataset: Dataset) -> NDArray[np.float32] | None:
    """Apply the first VOI LUT (PS3.3 C.11.2.1.1); None if there is none, or it is damaged."""
    luts = items(dataset, "VOILUTSequence")
    if not luts:
        return None
    table = lookup_table(
        luts[0],
        "LUTDescriptor",
        "LUTData",
        signed=float(values.min()) < 0.0,
        little_endian=transfer_syntax(dataset).is_little_endian,
    )
    return None if table is None else table.apply(values) / np.float32(table.highest)
