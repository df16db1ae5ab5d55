"""Attributes of an image and of one frame, which has functional groups (PS3.3 C.7.6.16).

A value that is damaged is absent, and `damaged` says which those are, by keyword. Only a rescale
is refused: the pixels mean something else without it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from .errors import NotAnalysableError
from .known_values import KnownDataset, Unknown
from .pixel_notes import PixelNote
from .reading import NotAnalysed

# What pydicom raises on damaged elements, which it parses when they are asked for. A MemoryError
# stays what it is.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    BufferError,
    BytesLengthException,
    EOFError,
    ImportError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
)

# Integer String (PS3.5 6.2) and Unsigned Long both fit; what does not is damaged.
_LARGEST_WHOLE = 2**32 - 1
# Millimetres, degrees or Hounsfield units: beyond this a number is no measurement of a patient.
_LARGEST = 1e9


def frame_element(dataset: Dataset, index: int, group: str, keyword: str) -> Any:
    """Return the value of an attribute for one frame.

    The frame's own functional group is asked first, then the shared one, then the data set itself,
    where images that are not enhanced keep it.

    Parameters
    ----------
    dataset : Dataset
        The image.
    index : int
        Frame, from 0.
    group : str
        Keyword of the functional group sequence, e.g. ``PlanePositionSequence``.
    keyword : str
        Keyword of the attribute, e.g. ``ImagePositionPatient``.

    Returns
    -------
    object or None
        The value; None where it is absent or empty everywhere, or damaged.
    """
    return element(frame_holder(dataset, index, group, keyword), keyword)


def frame_holder(dataset: Dataset, index: int, group: str, keyword: str) -> Dataset:
    """Return the data set that holds an attribute of one frame; see `frame_element`."""
    per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
    candidates = [per_frame[index]] if index < len(per_frame) else []
    candidates += items(dataset, "SharedFunctionalGroupsSequence")[:1]
    for functional_groups in candidates:
        macro = items(functional_groups, group)
        if macro and holds(macro[0], keyword):
            return macro[0]
    return dataset


def element(dataset: Dataset, keyword: str) -> Any:
    """Return the value of an attribute; None where it is absent, empty or not of its VR.

    Values are parsed when they are asked for: one bad decimal string in a header must not end the
    reading of an image that does not depend on it.
    """
    if isinstance(dataset, KnownDataset) and dataset.known is not None:
        known = dataset.known.value(keyword)
        if not isinstance(known, Unknown):
            return known
    try:
        value = dataset.get(keyword)
    except DAMAGE:
        return None
    empty = value is None or (hasattr(value, "__len__") and len(value) == 0)
    return None if empty else value


def items(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    """Return the items of a sequence; none where it is absent, empty or damaged."""
    value = element(dataset, keyword)
    return value if isinstance(value, DicomSequence) else ()


def holds(dataset: Dataset, keyword: str) -> bool:
    """Return whether an attribute is there with a value, be it damaged."""
    if isinstance(dataset, KnownDataset) and dataset.known is not None:
        known = dataset.known.holds(keyword)
        if known is not None:
            return known
    found = dataset.get_item(keyword, keep_deferred=True)
    if isinstance(found, RawDataElement):
        return found.length > 0 and (found.value is None or bool(found.value.strip(b" \0")))
    return found is not None and not found.is_empty


def number(value: Any) -> float | None:
    """Return a value as a finite number, or None."""
    try:
        converted = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return converted if math.isfinite(converted) and abs(converted) <= _LARGEST else None


def numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return `count` values as finite numbers, or None."""
    if count == 1:
        only = number(value)
        return None if only is None else (only,)
    try:
        converted = tuple(number(one) for one in value)
    except TypeError:  # not several values
        return None
    known = tuple(one for one in converted if one is not None)
    return known if len(known) == len(converted) == count else None


def whole_number(dataset: Dataset, keyword: str) -> int | None:
    """Return an attribute as an integer; None where it is absent, empty or no integer."""
    value = element(dataset, keyword)
    if not isinstance(value, (int, float, str)):
        return None
    try:
        converted = int(value)
    except (ValueError, OverflowError):
        return None
    if isinstance(value, float) and value != converted:
        return None
    return converted if abs(converted) <= _LARGEST_WHOLE else None


def transfer_syntax(dataset: Dataset) -> UID:
    """Return the Transfer Syntax UID (0002,0010), empty where there is none."""
    if isinstance(dataset, KnownDataset) and dataset.known is not None:
        return UID(dataset.known_syntax)
    meta = getattr(dataset, "file_meta", None)
    return UID("" if meta is None else str(element(meta, "TransferSyntaxUID") or ""))


def rescale(dataset: Dataset, index: int) -> tuple[float, float, tuple[str, ...]]:
    """Return slope and intercept of a frame (PS3.3 C.11.1), and what was assumed of them.

    Raises
    ------
    NotAnalysableError
        UNSUPPORTED_PIXELS if one is no finite number or the slope is 0.
    """
    slope = _rescale_number(dataset, index, "RescaleSlope")
    intercept = _rescale_number(dataset, index, "RescaleIntercept")
    notes: tuple[str, ...] = ()
    if slope == 0.0:
        raise NotAnalysableError(
            NotAnalysed.UNSUPPORTED_PIXELS, "Rescale Slope (0028,1053) is 0: all values are one"
        )
    if slope is None:
        slope, notes = 1.0, (PixelNote.RESCALE_SLOPE_DEFAULTED,)
    if intercept is None:
        intercept, notes = 0.0, (*notes, PixelNote.RESCALE_INTERCEPT_DEFAULTED)
    return slope, intercept, notes


def _rescale_number(dataset: Dataset, index: int, keyword: str) -> float | None:
    holder = frame_holder(dataset, index, "PixelValueTransformationSequence", keyword)
    value = number(element(holder, keyword))
    if value is None and holds(holder, keyword):
        raise NotAnalysableError(NotAnalysed.UNSUPPORTED_PIXELS, f"{keyword} is no finite number")
    return value


def damaged(headers: Sequence[Dataset], wanted: Mapping[str, tuple[str, int]]) -> dict[str, int]:
    """Count the headers in which an optional attribute is damaged, and so taken as absent.

    Parameters
    ----------
    headers : sequence of Dataset
    wanted : mapping of str to (str, int)
        Keywords of numeric attributes, with the functional group that may hold them and the
        number of their values.

    Returns
    -------
    dict of str to int
        By keyword, never with the value, which may be anything.
    """
    counts = {
        keyword: sum(_is_damaged(header, group, keyword, count) for header in headers)
        for keyword, (group, count) in wanted.items()
    }
    return {keyword: count for keyword, count in counts.items() if count}


def _is_damaged(header: Dataset, group: str, keyword: str, count: int) -> bool:
    return any(
        holds(holder, keyword) and numbers(element(holder, keyword), count) is None
        for holder in _holders(header, group)
    )


def _holders(header: Dataset, group: str) -> Iterator[Dataset]:
    yield header
    if group:
        for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
            for functional_groups in items(header, keyword):
                yield from items(functional_groups, group)[:1]
