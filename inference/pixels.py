"""From a stored SOP instance to modality values: PS3.3 C.7.6.3, C.7.5.1 and C.11.1.

What an image leaves out is replaced by a defined default and every default, repair or correction
is named in the notes of the result, so that it can be stored beside the findings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .ct_units import check_units
from .errors import NotAnalysableError
from .full_range import full_range_of, turned
from .functional_groups import items, rescale, transfer_syntax, whole_number
from .lookup_tables import lookup_table
from .luminance import luminance
from .pixel_aspect import is_square
from .pixel_notes import PixelNote, common_notes
from .reading import NotAnalysed
from .stored_frame import StoredFrame, named, padded, padding_ends, stored_frame, used_bits
from .stored_plane import Plane, StoredPlane, ends_of, in_pieces, whole
from .voi import voi_greys
from .windowed_ct import is_grey, is_windowed, restored_units
from .wrapped_ct import has_lost_sign, has_wrapped_offset, unwrap_12_bit

__all__ = [
    "AIR_HU",
    "ModalityImage",
    "common_notes",
    "hounsfield_values",
    "radiograph_values",
    "unwrap_12_bit",
    "used_bits",
]

# Values below air are no measurement: padding outside the scan circle is -1500, -2000 or -3024.
AIR_HU = -1024.0


@dataclass(frozen=True, slots=True)
class ModalityImage:
    """Modality values of one frame.

    Attributes
    ----------
    plane : ndarray of float32, or StoredPlane, (rows, columns)
        HU for CT; for radiographs any unit, tissue and bone high.
    notes : tuple of str
        Defaults, repairs and corrections that were applied, from a small fixed vocabulary.
    full_range : tuple of float, or None
        Radiographs: the lowest and highest value that Bits Stored (0028,0101) has room for, in
        the unit and direction of the values; None for floating-point pixels.
    """

    plane: Plane
    notes: tuple[str, ...]
    full_range: tuple[float, float] | None = None

    @property
    def values(self) -> NDArray[np.float32]:
        """All values, (rows, columns)."""
        return whole(self.plane)


def radiograph_values(dataset: Dataset, index: int = 0, *, voi: bool = False) -> ModalityImage:
    """Return a projection image with tissue and bone high, whatever its photometric form.

    MONOCHROME1 is inverted between the extremes of its own values, in whole numbers, so that it
    equals its MONOCHROME2 twin but for an offset. Colour and palette images become luminance.
    Padding takes the darkest value.

    Parameters
    ----------
    dataset : Dataset
    index : int
        Frame, from 0.
    voi : bool
        Apply the first VOI LUT or window of the header (PS3.3 C.11.2), if there is one: values are
        then 0 to 1. Colour has none.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE or UNSUPPORTED_PIXELS.
    """
    return radiograph_of(stored_frame(dataset, index), dataset, index, voi=voi)


def radiograph_of(
    frame: StoredFrame, dataset: Dataset, index: int, *, voi: bool = False
) -> ModalityImage:
    """Return what `radiograph_values` does, of the stored values of that frame."""
    notes = (*frame.notes, *_shape_notes(dataset, index))
    if frame.coloured:
        shown, note = luminance(frame, dataset)
        return ModalityImage(_finite(shown), (*notes, note), full_range_of(frame, dataset, index))
    padding = padded(dataset, frame.values)
    plane, made = _modality_values(dataset, frame.values, index)
    notes = (*notes, *made)
    full_range = full_range_of(frame, dataset, index)
    ends: tuple[float, float] | None = None
    if voi:
        greys = voi_greys(whole(plane), dataset, index)
        notes = (*notes, PixelNote.VOI_ABSENT if greys is None else PixelNote.VOI_APPLIED)
        if greys is not None:
            plane, ends, full_range = greys, (0.0, 1.0), (0.0, 1.0)
    if frame.photometric == "MONOCHROME1":
        lowest, highest = ends or ends_of(plane)
        plane = _inverted(plane, lowest + highest)
        full_range = turned(full_range, lowest + highest)
        notes = (*notes, PixelNote.MONOCHROME1_INVERTED)
    if padding is not None and not padding.all():
        plane = values = whole(plane)
        values[padding] = values[~padding].min()
        notes = (*notes, PixelNote.PADDING_REPLACED)
    return ModalityImage(plane, notes, full_range)


def hounsfield_values(dataset: Dataset, index: int = 0) -> ModalityImage:
    """Return a CT slice in Hounsfield units, not below air.

    MONOCHROME1 changes how they are shown, not what they are. A picture of 8 bits, grey or of one
    grey in three colours, is mapped back through its window (`windowed_ct`).

    Raises
    ------
    NotAnalysableError
        UNDECODABLE, or UNSUPPORTED_PIXELS if the values are coloured or declared to be something
        else than Hounsfield units.
    """
    return hounsfield_of(stored_frame(dataset, index), dataset, index)


def hounsfield_of(frame: StoredFrame, dataset: Dataset, index: int) -> ModalityImage:
    """Return what `hounsfield_values` does, of the stored values of that frame."""
    notes = (*frame.notes, *_shape_notes(dataset, index))
    notes = (*notes, *check_units(dataset, index))
    padding = None if frame.coloured else padded(dataset, frame.values)
    plane: Plane
    if frame.coloured:
        plane, made = _units_of_picture(frame, dataset, index)
    else:
        plane, made = _units(frame, dataset, index, padding)
    notes = (*notes, *made)
    if padding is not None:
        if not _is_air(plane, padding, padding_ends(dataset, frame.values)):
            plane = values = whole(plane)
            np.copyto(values, np.float32(AIR_HU), where=padding)
        notes = (*notes, PixelNote.PADDING_REPLACED)
    if ends_of(plane)[0] < AIR_HU:
        plane = _at_least(plane, AIR_HU)
        notes = (*notes, PixelNote.BELOW_AIR_CLAMPED)
    return ModalityImage(plane, notes)


def _is_air(values: Plane, padding: NDArray[np.bool_], ends: tuple[float, float] | None) -> bool:
    """Tell whether all that is padded is air already.

    Where one stored value is padding, one pixel of it tells the unit of them all.
    """
    if ends is None or ends[0] != ends[1]:
        return False
    cells, piece = in_pieces(values)
    one = cells.flat[int(padding.argmax())]
    return float(piece(np.array([one]), np.empty(1, dtype=np.float32))[0]) == AIR_HU


def _inverted(values: Plane, total: float) -> Plane:
    if isinstance(values, StoredPlane):
        return values.inverted(total)
    return np.float32(total) - values


def _at_least(values: Plane, least: float) -> Plane:
    if isinstance(values, StoredPlane):
        return values.at_least(least)
    return np.maximum(values, np.float32(least), out=values)


def _units(
    frame: StoredFrame, dataset: Dataset, index: int, padding: NDArray[np.bool_] | None
) -> tuple[Plane, tuple[str, ...]]:
    stored, inverted = frame.values, frame.photometric == "MONOCHROME1"
    slope, intercept, notes = rescale(dataset, index)
    values: Plane
    if is_windowed(dataset, stored, slope, intercept):
        values, made = restored_units(stored, dataset, index, inverted=inverted)
        return values, (*notes, *made)
    if has_wrapped_offset(dataset, stored, slope, intercept):
        values, notes = unwrap_12_bit(stored), (*notes, PixelNote.UNSIGNED_12_BIT_REPAIRED)
    elif has_lost_sign(dataset, stored, padding):
        values, notes = _modality_values(dataset, stored.astype(np.int16), index)
        notes = (*notes, PixelNote.UNSIGNED_16_BIT_REPAIRED)
    else:
        values, notes = _modality_values(dataset, stored, index)
    return values, (*notes, PixelNote.MONOCHROME1_KEPT) if inverted else notes


def _units_of_picture(
    frame: StoredFrame, dataset: Dataset, index: int
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return the units of a picture whose colours are greys of 8 bits; others are refused."""
    stored = frame.values
    if frame.photometric != "RGB" or stored.dtype != np.uint8 or not is_grey(stored):
        raise _unsupported(f"a CT slice with {named(frame.photometric)} holds no Hounsfield units")
    greys, note = luminance(frame, dataset)
    values, notes = restored_units(greys, dataset, index, inverted=False)
    return values, (note, *notes)


def _shape_notes(dataset: Dataset, index: int) -> tuple[str, ...]:
    return () if is_square(dataset, index) else (PixelNote.PIXELS_NOT_SQUARE,)


def _modality_values(
    dataset: Dataset, stored: NDArray[Any], index: int
) -> tuple[Plane, tuple[str, ...]]:
    """Apply the Modality LUT or the rescale (PS3.3 C.11.1); without either the values stand."""
    if luts := items(dataset, "ModalityLUTSequence"):
        table = lookup_table(
            luts[0],
            "LUTDescriptor",
            "LUTData",
            signed=whole_number(dataset, "PixelRepresentation") == 1,
            little_endian=transfer_syntax(dataset).is_little_endian,
        )
        if table is None:
            raise _unsupported("the Modality LUT Sequence (0028,3000) is damaged")
        return table.apply(stored), (PixelNote.MODALITY_LUT,)
    slope, intercept, notes = rescale(dataset, index)
    with np.errstate(over="ignore"):
        plane = StoredPlane(stored, np.float32(slope), np.float32(intercept))
    if (
        stored.ndim == 2
        and stored.dtype.kind in "iu"
        and abs(slope) * 2.0**32 + abs(intercept) < _SURELY_FINITE
    ):
        return plane, notes  # and nobody need look at each
    with np.errstate(over="ignore", invalid="ignore"):
        return _finite(plane.values), notes


# Far below the largest number of single precision.
_SURELY_FINITE = 1e30


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    # Either end is not finite where any value is not; a mask of all pixels costs more.
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise _unsupported("some pixels have a value that is no finite number")
    return values


def _unsupported(reason: str) -> NotAnalysableError:
    return NotAnalysableError(NotAnalysed.UNSUPPORTED_PIXELS, reason)
