"""Colour to grey: red, green and blue, or a palette (PS3.3 C.7.6.3.1.2 and C.7.6.3.1.5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

from .errors import NotAnalysableError
from .functional_groups import DAMAGE, holds, transfer_syntax, whole_number
from .lookup_tables import lookup_table
from .pixel_notes import PixelNote
from .reading import NotAnalysed
from .stored_frame import StoredFrame

# ITU-R BT.601, the luminance of PS3.3 C.7.6.3.1.2.
_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_COLOURS = ("Red", "Green", "Blue")


def luminance(frame: StoredFrame, dataset: Dataset) -> tuple[NDArray[np.float32], str]:
    """Return the luminance of a coloured frame, (rows, columns), and the note for it.

    Colours are taken as they stand: an ICC profile (0028,2000) changes no grey that matters here.

    Raises
    ------
    NotAnalysableError
        UNSUPPORTED_PIXELS if a palette is damaged.
    """
    if frame.photometric != "PALETTE COLOR":
        return _weighed(frame.values), PixelNote.COLOUR_TO_LUMINANCE
    try:
        if holds(dataset, "RedPaletteColorLookupTableData"):
            coloured = _by_palette(frame.values, dataset)
        else:
            # Segmented tables (C.7.9.2) are expanded by pydicom.
            coloured = apply_color_lut(frame.values, dataset)
    except DAMAGE as error:
        raise _damaged(type(error).__name__) from error
    return _weighed(coloured), PixelNote.PALETTE_TO_LUMINANCE


def _weighed(coloured: NDArray[np.generic]) -> NDArray[np.float32]:
    grey: NDArray[np.float32] = coloured[..., :3].astype(np.float32) @ _WEIGHTS
    return grey


def _by_palette(stored: NDArray[np.generic], dataset: Dataset) -> NDArray[np.float32]:
    signed = whole_number(dataset, "PixelRepresentation") == 1
    tables = [
        lookup_table(
            dataset,
            f"{colour}PaletteColorLookupTableDescriptor",
            f"{colour}PaletteColorLookupTableData",
            signed=signed,
            little_endian=transfer_syntax(dataset).is_little_endian,
        )
        for colour in _COLOURS
    ]
    found = [table.apply(stored) for table in tables if table is not None]
    if len(found) != len(_COLOURS):
        raise _damaged("a descriptor or its entries")
    return np.stack(found, axis=-1)


def _damaged(what: str) -> NotAnalysableError:
    return NotAnalysableError(
        NotAnalysed.UNSUPPORTED_PIXELS, f"the palette colour lookup table is damaged ({what})"
    )
