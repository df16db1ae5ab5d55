"""A frame as it is stored, and a table of what its values mean.

All that `pixels` does to a stored value - rescale or table, repairs, padding, inversion, grey
levels of the header - depends on that value and on a few facts of the picture. So the same
functions, asked for each value that occurs, give a table of it, and looking up in that table gives
to the last bit what they give for the picture. Light: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ..functional_groups import items
from ..input_spec import InputSpec
from ..pixel_notes import PixelNote
from ..pixels import ModalityImage, hounsfield_of, radiograph_of
from ..polarity import looked_at, looks_negative
from ..stored_frame import StoredFrame, padded, stored_frame

# Entries of a table, and types of values that are stored as they came.
_MOST = 1 << 16
_AS_STORED = ("uint8", "int8", "uint16", "int16")
# Unsigned values from here on may be signed ones that lost their sign; see `wrapped_ct`.
_SIGN = 1 << 15
# Tables of an image, of which a higher value may have the lower entry.
_TABLES = ("ModalityLUTSequence", "VOILUTSequence")
# Grey values of a picture of 8 bits; in wider cells their share decides what they are.
_WHITE = 255


class Host(StrEnum):
    """Why a frame takes the host's path instead."""

    COLOUR = "colour"
    NOT_INTEGERS = "not_integers"
    WIDE_RANGE = "wide_range"
    MAYBE_A_PICTURE = "maybe_a_picture"


@dataclass(frozen=True, slots=True, eq=False)
class StoredPicture:
    """A frame and the meaning of its values.

    Attributes
    ----------
    stored : ndarray of 8 or 16-bit integers, (rows, columns)
    first : int
        The stored value of the first entry of the table.
    table : ndarray of float32, (entries,)
        What `ModalityImage.values` has for each stored value; anything for those that do not occur.
    lowest, highest : float
        Of what `ModalityImage.values` has.
    notes, full_range
        As of `ModalityImage`.
    turned : bool
        Of a chest: it looks like a negative and is to be turned round; noted already.
    """

    stored: NDArray[Any]
    first: int
    table: NDArray[np.float32]
    lowest: float
    highest: float
    notes: tuple[str, ...]
    full_range: tuple[float, float] | None = None
    turned: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.stored.shape[0]), int(self.stored.shape[1])

    @property
    def values(self) -> NDArray[np.float32]:
        """The values of float32, (rows, columns), looked up on the host."""
        return self.look_up(self.stored)

    def look_up(self, part: NDArray[Any]) -> NDArray[np.float32]:
        """Return the values of a part of what is stored, of any shape."""
        found: NDArray[np.float32] = self.table[part.astype(np.int32) - self.first]
        return found

    def __getitem__(self, part: Any) -> NDArray[Any]:
        """Return a part of `values`."""
        found: NDArray[Any] = self.values[part]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return `values`: who looks at some pictures among many pays for those alone."""
        return self.values if dtype is None else self.values.astype(dtype, copy=False)

    def has_contrast(self, box: tuple[int, int, int, int]) -> bool:
        """Tell whether a part (top, left, bottom, right) has two values."""
        top, left, bottom, right = box
        part = self.stored[top:bottom, left:right]
        if part.min() == part.max():
            return False
        steps = np.diff(self.table)
        if bool((steps > 0).all()) or bool((steps < 0).all()):
            return True
        values = self.look_up(part)
        return bool(values.min() < values.max())


def picture_of(dataset: Dataset, index: int, spec: InputSpec) -> StoredPicture | ModalityImage:
    """Return a frame for an input of this specification.

    Parameters
    ----------
    dataset : Dataset
        Of `image_file.open_image`.
    index : int
        Frame, from 0.
    spec : InputSpec
        Of kind ``radiograph`` or ``ct_slices``.

    Returns
    -------
    StoredPicture or ModalityImage
        Values, as `model_values` gives them, where there is no table; why stands before its notes,
        `host_note` takes it off again.

    Raises
    ------
    NotAnalysableError
        As `model_values` does.
    """
    frame = stored_frame(dataset, index)
    native = frame.values.dtype.newbyteorder("=")
    frame = replace(frame, values=frame.values.astype(native, copy=False))
    domain = _domain(frame, dataset, spec)
    if isinstance(domain, Host):
        image = _meaning(frame, dataset, index, spec)
        if _is_negative(image.values, spec):
            image = replace(image, notes=(*image.notes, PixelNote.POLARITY_CORRECTED))
        return replace(image, notes=(_NOTE + domain, *image.notes))
    told = _meaning(replace(frame, values=domain[None]), dataset, index, spec)
    first, last = int(domain[0]), int(domain[-1])
    table = told.values[0]
    if len(domain) != last - first + 1:
        table = np.zeros(last - first + 1, dtype=np.float32)
        table[domain.astype(np.int64) - first] = told.values[0]
    stored = frame.values
    if stored.dtype.name not in _AS_STORED:
        stored, first = (stored - stored.dtype.type(first)).astype(np.uint16), 0
    made = StoredPicture(
        stored=stored,
        first=first,
        table=np.ascontiguousarray(table, dtype=np.float32),
        lowest=float(told.values.min()),
        highest=float(told.values.max()),
        notes=told.notes,
        full_range=told.full_range,
    )
    if _is_negative(made.look_up(looked_at(stored)), spec):
        return replace(made, turned=True, notes=(*made.notes, PixelNote.POLARITY_CORRECTED))
    return made


_NOTE = "host:"


def host_note(image: ModalityImage) -> tuple[ModalityImage, str]:
    """Return values without the reason why there is no table, and that reason."""
    first = image.notes[0] if image.notes else ""
    if not first.startswith(_NOTE):
        return image, ""
    return replace(image, notes=image.notes[1:]), first.removeprefix(_NOTE)


def _meaning(frame: StoredFrame, dataset: Dataset, index: int, spec: InputSpec) -> ModalityImage:
    if spec.kind == "ct_slices":
        return hounsfield_of(frame, dataset, index)
    return radiograph_of(frame, dataset, index, voi=spec.voi)


def _is_negative(values: NDArray[np.float32], spec: InputSpec) -> bool:
    return spec.kind == "radiograph" and spec.polarity == "chest" and looks_negative(values)


def _domain(frame: StoredFrame, dataset: Dataset, spec: InputSpec) -> NDArray[Any] | Host:
    """Return values, ascending, of which the picture's functions say the same as of the picture.

    These are the ones that occur; or, as they are costly to find, all from the lowest to the
    highest, where nothing depends on which of them occur.
    """
    stored = frame.values
    if frame.coloured:
        return Host.COLOUR
    if stored.dtype.kind not in "iu":
        return Host.NOT_INTEGERS
    low, high = int(stored.min()), int(stored.max())
    if high - low >= _MOST:
        return Host.WIDE_RANGE
    if spec.kind == "ct_slices" and stored.dtype.itemsize > 1 and (low, high) == (0, _WHITE):
        return Host.MAYBE_A_PICTURE
    every = np.arange(low, high + 1, dtype=np.int64).astype(stored.dtype)
    lost_sign = stored.dtype.kind == "u" and high >= _SIGN
    if lost_sign or any(items(dataset, keyword) for keyword in _TABLES):
        return every[_counts(stored, low) > 0]
    if (hidden := padded(dataset, every[None])) is None:
        return every
    return _with_padding(every, hidden[0], stored, padded(dataset, stored))


def _with_padding(
    every: NDArray[Any], hidden: NDArray[np.bool_], stored: NDArray[Any], found: Any
) -> NDArray[Any]:
    """Return those of `every` value that are padding, if any occurs, and the range of the others.

    `hidden` tells which values are padding, `found` which of the stored ones are.
    """
    if found is None:
        return every[~hidden]
    seen = ~found
    low = stored.min(where=seen, initial=every[-1])
    high = stored.max(where=seen, initial=every[0])
    kept: NDArray[np.bool_] = hidden | ((every >= low) & (every <= high) & bool(seen.any()))
    return every[kept]


def _counts(stored: NDArray[Any], low: int) -> NDArray[np.int64]:
    """Return how often each value from `low` on occurs."""
    cells = stored.view(f"u{stored.dtype.itemsize}")
    # Differences of unsigned cells wrap to what they are.
    offset = cells.dtype.type(low % (1 << (8 * stored.dtype.itemsize)))
    counted: NDArray[np.int64] = np.bincount((cells - offset).reshape(-1))
    return counted
