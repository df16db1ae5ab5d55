"""What readers need of a stored instance, written down once: where its frames are, what they mean.

Made from the file after it was acknowledged, by `stored_facts`; kept by whoever likes, as bytes. No
name, number or date of a patient is in it. What a header does not say is not in it either: that it
is absent is, and why frames cannot be read by their offset.
"""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from sys import intern
from typing import Any, cast

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue

from .direct_frames import Cells, is_direct, is_plain
from .frame_table import (
    FrameTable,
    Unlocated,
    UnlocatedError,
    encapsulated_table,
    native_table,
)
from .functional_groups import element, holds, transfer_syntax, whole_number
from .known_values import KnownValues, Value

# Goes up whenever the attributes below or the form of the bytes change; older facts are made anew.
VERSION = 1

# Attributes whose values are written down; every one that the gate, the geometry or the pixels ask
# for. One that is forgotten costs time, never truth: the file is read then.
_VALUES = (
    "BitsAllocated", "BitsStored", "BodyPartExamined", "Columns", "ContrastBolusAgent",
    "ConvolutionKernel", "FrameType", "GantryDetectorTilt", "HighBit", "ImageOrientationPatient",
    "ImagePositionPatient", "ImageType", "ImagerPixelSpacing", "InstanceNumber", "Modality",
    "NominalScannedPixelSpacing", "NumberOfFrames", "PatientOrientation",
    "PhotometricInterpretation", "PixelAspectRatio", "PixelPaddingRangeLimit",
    "PixelPaddingValue", "PixelRepresentation", "PixelSpacing", "PlanarConfiguration",
    "QualityControlImage", "QualityControlSubject", "RescaleIntercept", "RescaleSlope",
    "RescaleType", "Rows", "SamplesPerPixel", "SliceLocation", "SliceThickness",
    "VOILUTFunction", "ViewPosition", "WindowCenter", "WindowWidth",
)  # fmt: skip
# Attributes of which only that they are there is: pixels, tables, sequences.
_PRESENCE = (
    "ContrastBolusAgentSequence", "DoubleFloatPixelData", "ExtendedOffsetTable",
    "FloatPixelData", "ModalityLUTSequence", "PerFrameFunctionalGroupsSequence", "PixelData",
    "SharedFunctionalGroupsSequence", "VOILUTSequence", "ViewCodeSequence",
)  # fmt: skip
_ASKED = frozenset((*_VALUES, *_PRESENCE))
# A frame shorter than that is none (`held_frames`).
_SHORTEST_FRAME = 26


@dataclass(frozen=True, slots=True)
class StoredFacts:
    """What is known of one stored file.

    Attributes
    ----------
    size_bytes : int
        Of the file; another size is another file, and the facts are not believed then.
    syntax : str
        Transfer Syntax UID (0002,0010).
    known : KnownValues
        Attributes of the image.
    table : FrameTable or None
        Where the frames are.
    unlocated : Unlocated or None
        Why there is no table.
    """

    size_bytes: int
    syntax: str
    known: KnownValues
    table: FrameTable | None
    unlocated: Unlocated | None = None

    @property
    def cells(self) -> Cells | None:
        """What is said of the cells, if that is complete."""
        return _cells(self.known)

    def to_bytes(self) -> bytes:
        """Return the compact form, to be read by `from_bytes`."""
        stated = {
            "size": self.size_bytes,
            "syntax": self.syntax,
            "values": dict(self.known.values),
            "damaged": sorted(self.known.damaged),
            "empty": sorted(self.known.empty),
            "valued": sorted(self.known.valued),
            "unlocated": None if self.unlocated is None else str(self.unlocated),
            "frames": None if self.table is None else _packed(self.table),
        }
        # ASCII: an escaped character of another encoding survives any database.
        return bytes((VERSION,)) + zlib.compress(json.dumps(stated).encode("ascii"), 1)


def facts_from_bytes(content: bytes) -> StoredFacts | None:
    """Read what `StoredFacts.to_bytes` wrote; None if another version did, or it is damaged."""
    if content[:1] != bytes((VERSION,)):
        return None
    try:
        stated = json.loads(zlib.decompress(content[1:]))
        frames, unlocated = stated["frames"], stated["unlocated"]
        return StoredFacts(
            size_bytes=int(stated["size"]),
            syntax=str(stated["syntax"]),
            known=KnownValues(
                asked=_ASKED,
                values={intern(name): one for name, one in dict(stated["values"]).items()},
                damaged=_one_set(tuple(stated["damaged"])),
                empty=_one_set(tuple(stated["empty"])),
                valued=_one_set(tuple(stated["valued"])),
            ),
            table=None if frames is None else _unpacked(frames),
            unlocated=None if unlocated is None else Unlocated(unlocated),
        )
    except (ValueError, KeyError, TypeError, zlib.error):
        return None


def stored_facts(dataset: Dataset, size_bytes: int) -> StoredFacts:
    """Return the facts of an image just opened (`image_file`); its values stay as they are.

    Parameters
    ----------
    dataset : Dataset
        With its pixels still in the file, whose path it knows.
    size_bytes : int
        Of the file.
    """
    syntax = transfer_syntax(dataset)
    known = _known(dataset)
    table, unlocated = None, None
    try:
        table = _table(dataset, known)
    except UnlocatedError as error:
        unlocated = error.code
    except OSError:
        unlocated = Unlocated.UNREADABLE
    return StoredFacts(size_bytes, str(syntax), known, table, unlocated)


@lru_cache(maxsize=256)
def _one_set(keywords: tuple[str, ...]) -> frozenset[str]:
    """Return the same set for the hundreds of slices that say the same."""
    return frozenset(keywords)


def _known(dataset: Dataset) -> KnownValues:
    values: dict[str, Value] = {}
    damaged: set[str] = set()
    empty: set[str] = set()
    valued: set[str] = set()
    for keyword in sorted(_ASKED):
        if keyword not in dataset:
            continue
        if keyword in _PRESENCE:
            (valued if holds(dataset, keyword) else empty).add(keyword)
        elif (value := element(dataset, keyword)) is None:
            (damaged if holds(dataset, keyword) else empty).add(keyword)
        elif (plain := _plain(value)) is not None:
            values[keyword] = plain
        else:
            valued.add(keyword)  # of a kind that is not written down: the file is asked
    return KnownValues(_ASKED, values, frozenset(damaged), frozenset(empty), frozenset(valued))


def _plain(value: Any) -> Value | None:
    """Return a value as JSON has it, None if it has not."""
    if isinstance(value, MultiValue | list | tuple):
        several = [_plain(one) for one in value]
        is_plain_list = all(isinstance(one, int | float | str) for one in several)
        return cast(Value, several) if is_plain_list else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        return str.__str__(value)
    return int(value) if isinstance(value, int) else float(value)


def _cells(known: KnownValues) -> Cells | None:
    keywords = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
    found = [known.value(keyword) for keyword in keywords]
    if not all(isinstance(one, int) for one in found) or found[5] not in (0, 1):
        return None
    rows, columns, allocated, stored, high, signed = cast(list[int], found)
    return Cells(rows, columns, allocated, stored, high, signed == 1)


def _table(dataset: Dataset, known: KnownValues) -> FrameTable:
    syntax, cells = transfer_syntax(dataset), _cells(known)
    if not known.holds("PixelData"):
        raise UnlocatedError(Unlocated.NO_PIXEL_DATA)
    if cells is None:
        raise UnlocatedError(Unlocated.MISSING_ATTRIBUTES)
    if known.value("SamplesPerPixel") != 1:
        raise UnlocatedError(Unlocated.SEVERAL_SAMPLES)
    if not is_plain(cells, 1, str(known.value("PhotometricInterpretation"))):
        raise UnlocatedError(Unlocated.OTHER_CELLS)
    if any(known.contains(keyword) for keyword in ("FloatPixelData", "DoubleFloatPixelData")):
        raise UnlocatedError(Unlocated.OTHER_CELLS)
    if not is_direct(syntax):
        raise UnlocatedError(Unlocated.OTHER_SYNTAX)
    frames = whole_number(dataset, "NumberOfFrames")
    if known.contains("NumberOfFrames") and (frames is None or frames < 1):
        raise UnlocatedError(Unlocated.MISSING_ATTRIBUTES)
    frames = frames or 1
    raw = dataset.get_item("PixelData", keep_deferred=True)
    if not isinstance(raw, RawDataElement):
        raise UnlocatedError(Unlocated.UNREADABLE)
    with open(dataset.filename, "rb") as file:  # noqa: PTH123 - any path that pydicom knows
        if not syntax.is_encapsulated:
            remaining = file.seek(0, 2) - raw.value_tell
            length = min(raw.length, remaining)
            return native_table(raw.value_tell, length, cells.frame_bytes, frames)
        table = encapsulated_table(file, raw.value_tell, frames, _extended(dataset))
    if any(sum(length for _, length in parts) < _SHORTEST_FRAME for parts in table.spans):
        raise UnlocatedError(Unlocated.ODD_FRAGMENTS)
    return table


def _extended(dataset: Dataset) -> tuple[list[int], list[int]] | None:
    """Return the Extended Offset Table and its lengths (7FE0,0001 and 0002)."""
    if "ExtendedOffsetTable" not in dataset:
        return None
    pair = [element(dataset, f"ExtendedOffsetTable{name}") for name in ("", "Lengths")]
    with suppress(ValueError, TypeError):
        offsets, lengths = (np.frombuffer(one, "<u8").tolist() for one in pair)
        return offsets, lengths
    raise UnlocatedError(Unlocated.ODD_OFFSETS)


def _packed(table: FrameTable) -> list[int] | list[list[int]]:
    """Return native frames as offset, length and number, others as their parts."""
    if all(len(parts) == 1 for parts in table.spans):
        spans = [parts[0] for parts in table.spans]
        evenly = all(b[0] - a[0] == a[1] == b[1] for a, b in pairwise(spans))
        if evenly:
            return [spans[0][0], spans[0][1], len(spans)]
    return [[number for span in parts for number in span] for parts in table.spans]


def _unpacked(frames: Any) -> FrameTable:
    if not isinstance(frames[0], list):
        offset, length, count = (int(number) for number in frames)
        spans = (((offset + index * length, length),) for index in range(count))
        return FrameTable(tuple(spans))
    return FrameTable(
        tuple(tuple(zip(map(int, p[::2]), map(int, p[1::2]), strict=True)) for p in frames)
    )
