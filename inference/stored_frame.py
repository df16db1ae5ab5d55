"""One frame as it is stored: its values, what colour they have, where it is padded.

Cells become values here (PS3.5 8.1.1) and padding is found (PS3.3 C.7.5.1.1.2); what the values
mean is for `pixels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.common import PhotometricInterpretation
from pydicom.uid import RLELossless

from .decoder_table import DecodingError
from .decoders import decode_frame_told
from .errors import NotAnalysableError
from .functional_groups import element, holds, transfer_syntax, whole_number
from .pixel_notes import PixelNote
from .reading import NotAnalysed

# Where the padding stands, by the element that holds the pixels (PS3.3 C.7.5.1, C.7.6.24 and 25).
_PADDING = {
    "FloatPixelData": ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    "DoubleFloatPixelData": ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
}
_INTEGER_PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")


@dataclass(frozen=True, slots=True, eq=False)
class StoredFrame:
    """The values of one frame.

    Attributes
    ----------
    values : ndarray, (rows, columns) or (rows, columns, 3 or 4)
        Stored values; colour as RGB.
    photometric : str
        Photometric Interpretation of the array.
    notes : tuple of str
        What was done to it.
    """

    values: NDArray[Any]
    photometric: str
    notes: tuple[str, ...] = ()

    @property
    def coloured(self) -> bool:
        """Whether it needs to become luminance."""
        return self.values.ndim == 3 or self.photometric == "PALETTE COLOR"


def stored_frame(dataset: Dataset, index: int) -> StoredFrame:
    """Decode a frame.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE, or UNSUPPORTED_PIXELS if it is neither grey nor red, green and blue.
    """
    try:
        values, photometric, fell_back = decode_frame_told(dataset, index)
    except DecodingError as error:
        raise NotAnalysableError(NotAnalysed.UNDECODABLE, str(error)) from error
    coloured = values.ndim == 3 and photometric == "RGB" and values.shape[-1] in (3, 4)
    grey = photometric in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    if not coloured and not (values.ndim == 2 and grey):
        raise NotAnalysableError(
            NotAnalysed.UNSUPPORTED_PIXELS,
            f"{named(photometric)} with values of shape {values.shape}",
        )
    notes: tuple[str, ...] = (PixelNote.DECODER_FALLBACK,) if fell_back else ()
    if _ignores_padding(dataset):
        notes = (*notes, PixelNote.PADDING_IGNORED)
    if values.dtype.kind in "iu" and _has_cells(dataset):
        bits = whole_number(dataset, "BitsStored") or values.dtype.itemsize * 8
        high = whole_number(dataset, "HighBit")
        if high is None:
            high, notes = bits - 1, (*notes, PixelNote.HIGH_BIT_DEFAULTED)
        signed = whole_number(dataset, "PixelRepresentation") == 1
        if _fits(values, bits, high, signed):
            return StoredFrame(_cells(values, signed), photometric, notes)
        cells = _cells(values, signed)
        beyond = _padding_beyond(dataset, cells, bits, high)
        pixels = values if beyond is None else np.where(beyond, cells.dtype.type(0), cells)
        if _carries_more(pixels, bits, high, signed):
            notes = (*notes, PixelNote.UNUSED_BITS_DROPPED)
        kept = used_bits(pixels, bits, high, signed)
        values = kept if beyond is None else np.where(beyond, cells, kept)
    return StoredFrame(values, photometric, notes)


def used_bits(stored: NDArray[Any], bits_stored: int, high_bit: int, signed: bool) -> NDArray[Any]:
    """Keep the bits of the pixel and drop what else is in the cell, such as an overlay.

    Parameters
    ----------
    stored : ndarray of 8, 16 or 32-bit integers
        Cells as they are in the file, of either byte order.
    bits_stored, high_bit : int
        (0028,0101) and (0028,0102), PS3.5 8.1.1.
    signed : bool
        Pixel Representation (0028,0103) is 1.
    """
    allocated = stored.dtype.itemsize * 8
    if not _is_part(bits_stored, high_bit, allocated):
        return stored
    cells = _cells(stored, signed)
    moved: NDArray[Any] = (cells << (allocated - 1 - high_bit)) >> (allocated - bits_stored)
    return moved


def padded(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return where a grey frame is padded (PS3.3 C.7.5.1.1.2), or None if it is nowhere."""
    if (ends := padding_ends(dataset, stored)) is None:
        return None
    lowest, highest = ends
    is_one = lowest == highest  # one look in place of three
    found = stored == lowest if is_one else (stored >= lowest) & (stored <= highest)
    return found if found.any() else None


def padding_ends(dataset: Dataset, stored: NDArray[Any]) -> tuple[float, float] | None:
    """Return the lowest and the highest stored value that is padding; None if there is none."""
    if stored.ndim != 2:
        return None
    holder = next((keyword for keyword in _PADDING if keyword in dataset), "")
    named_value, named_limit = _PADDING.get(holder, _INTEGER_PADDING)
    value = _in_range_of(stored, element(dataset, named_value))
    limit = _in_range_of(stored, element(dataset, named_limit))
    if value is None:
        return None
    limit = value if limit is None else limit
    return min(value, limit), max(value, limit)


def _padding_beyond(
    dataset: Dataset, cells: NDArray[Any], bits: int, high: int
) -> NDArray[np.bool_] | None:
    """Return where cells are padded with what the used bits have no room for, or None.

    PS3.3 C.7.5.1.1.2 allows no such value, and scanners write it: -3024 beside pixels of 12 bits.
    Cut to its bits it were one of the pixels, and the edge of a CT slice as dense as bone.
    """
    allocated = cells.dtype.itemsize * 8
    if high != bits - 1 or not _is_part(bits, high, allocated):
        return None
    ends = [element(dataset, keyword) for keyword in _INTEGER_PADDING]
    value = ends[0] if isinstance(ends[0], int) else 0
    signed = cells.dtype.kind == "i"
    if signed and allocated == 16 and value >= 32_768:
        value -= 65_536
    lowest = -(1 << (bits - 1)) if signed else 0
    if lowest <= value < lowest + (1 << bits):
        return None
    found = padded(dataset, cells)
    if found is None:
        return None
    beyond = found & ((cells < lowest) | (cells >= lowest + (1 << bits)))
    return beyond if beyond.any() else None


def _ignores_padding(dataset: Dataset) -> bool:
    """Return whether a header says something of padding that cannot be understood."""
    holder = next((keyword for keyword in _PADDING if keyword in dataset), "")
    named_value, named_limit = _PADDING.get(holder, _INTEGER_PADDING)
    said = holds(dataset, named_value) or holds(dataset, named_limit)
    return said and not isinstance(element(dataset, named_value), int | float)


def named(photometric: str) -> str:
    """Name a defined term; anything else may be anything, and is not repeated."""
    known = photometric in list(PhotometricInterpretation)
    return f"Photometric Interpretation {photometric if known else 'of no defined term'}"


def _has_cells(dataset: Dataset) -> bool:
    """Tell whether the file holds whole cells; other codestreams hold the stored bits alone."""
    syntax = transfer_syntax(dataset)
    return not syntax.is_encapsulated or syntax == RLELossless


def _is_part(bits: int, high: int, allocated: int) -> bool:
    return 1 <= bits <= high + 1 <= allocated and bits < allocated


def _fits(stored: NDArray[Any], bits: int, high: int, signed: bool) -> bool:
    """Tell at a glance whether the unused bits are zeros above the used ones, as they nearly are.

    One look at the highest value, where masks and shifts make three copies of a picture.
    """
    allocated = stored.dtype.itemsize * 8
    if signed or high != bits - 1 or not _is_part(bits, high, allocated):
        return False
    return int(_cells(stored, signed=False).max()) < 1 << bits


def _cells(stored: NDArray[Any], signed: bool) -> NDArray[Any]:
    """Return cells in the byte order of this machine, which shifts and views are made in."""
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    return native.view(f"{'i' if signed else 'u'}{native.dtype.itemsize}")


def _carries_more(stored: NDArray[Any], bits: int, high: int, signed: bool) -> bool:
    """Tell whether the unused bits hold more than zeros or the sign."""
    allocated = stored.dtype.itemsize * 8
    if not _is_part(bits, high, allocated):
        return False
    unused = (1 << allocated) - 1 - (((1 << bits) - 1) << (high + 1 - bits))
    cells = _cells(stored, signed=False)
    carried = cells & cells.dtype.type(unused)
    if not carried.any():
        return False
    if not signed:
        return True
    above = (1 << allocated) - (1 << (high + 1))
    return bool(((carried != 0) & (carried != above)).any())


def _in_range_of(stored: NDArray[Any], value: object) -> float | None:
    """Return a value as the pixels have it: real headers give it the other sign's VR."""
    if not isinstance(value, int | float):
        return None
    if stored.dtype.kind == "f":
        return value
    signed = bool(stored.min() < 0) if stored.dtype.kind == "i" else False
    if signed and 32_768 <= value <= 65_535:
        return value - 65_536
    if stored.dtype.kind == "u" and stored.dtype.itemsize == 2 and -32_768 <= value < 0:
        return value + 65_536
    return value
