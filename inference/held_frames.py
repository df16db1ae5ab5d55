"""How many frames the pixel data of an image hold, by their bytes: nothing is decoded or loaded.

A header may say a million frames, which costs nothing to write.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from .decoder_table import PREFERENCE, DecodingError, undecodable
from .functional_groups import element, holds, transfer_syntax, whole_number
from .known_values import KnownDataset

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_ITEM = b"\xfe\xff\x00\xe0"
# No frame is shorter: RLE begins with 64 bytes of header (PS3.5 G.5), the markers of a JPEG
# codestream alone are more than 25.
_SHORTEST_FRAME = 26


def held_frames(dataset: Dataset, limit: int) -> int:
    """Return how many frames the pixel data can hold, without decoding or loading them.

    Native frames have one length (PS3.5 8.1.1). An encapsulated frame is one fragment or more
    (PS3.5 A.4); what an offset table leaves out does not count.

    Parameters
    ----------
    dataset : Dataset
        As read from a file.
    limit : int
        Frames that are looked for; no more fragments are visited.

    Raises
    ------
    DecodingError
        If an attribute that says how long a frame is is missing or damaged, or there is no decoder
        for the transfer syntax.
    """
    if isinstance(dataset, KnownDataset) and (located := dataset.located_frames) is not None:
        return min(located, limit)
    syntax = transfer_syntax(dataset)
    encapsulated = syntax.is_transfer_syntax and syntax.is_encapsulated
    if not syntax.is_transfer_syntax or (encapsulated and syntax not in PREFERENCE):
        raise undecodable(syntax, "no decoder for it is installed")
    with _pixel_file(dataset) as (file, length):
        if encapsulated:
            return _encapsulated_frames(dataset, file, limit)
    return length // _frame_bytes(dataset)


def _frame_bytes(dataset: Dataset) -> int:
    rows, columns, bits = (
        _required(dataset, keyword) for keyword in ("Rows", "Columns", "BitsAllocated")
    )
    samples = max(1, whole_number(dataset, "SamplesPerPixel") or 1)
    photometric = element(dataset, "PhotometricInterpretation")
    # Two pixels share their chrominance (PS3.3 C.7.6.3.1.2); some say so only by their length.
    if samples == 3 and str(photometric).startswith("YBR"):
        samples = 2
    return max(1, rows * columns * samples * bits // 8)


def _required(dataset: Dataset, keyword: str) -> int:
    value = whole_number(dataset, keyword)
    if value is None or value < 1:
        raise DecodingError(f"{keyword} is missing or damaged")
    return value


@contextmanager
def _pixel_file(dataset: Dataset) -> Iterator[tuple[BinaryIO, int]]:
    """Open the pixels where they are, in memory or in the file, and say how many bytes remain."""
    keyword = next((keyword for keyword in PIXEL_KEYWORDS if holds(dataset, keyword)), "PixelData")
    found = dataset.get_item(keyword, keep_deferred=True)
    value = getattr(found, "value", None)
    if isinstance(found, RawDataElement) and value is None and found.length:
        # A deferred length is what the header says, not what the file has.
        with Path(str(dataset.filename)).open("rb") as file:
            remaining = max(0, os.fstat(file.fileno()).st_size - found.value_tell)
            file.seek(found.value_tell)
            yield file, min(found.length, remaining)
        return
    content = value if isinstance(value, bytes) else b""
    yield BytesIO(content), len(content)


def _encapsulated_frames(dataset: Dataset, file: BinaryIO, limit: int) -> int:
    table = _item_length(file) or 0
    file.seek(table, os.SEEK_CUR)
    if (extended := element(dataset, "ExtendedOffsetTable")) is not None:
        limit = min(limit, len(extended) // 8 if isinstance(extended, bytes) else 0)
    elif table:
        limit = min(limit, table // 4)
    end = file.seek(0, os.SEEK_CUR)
    size = file.seek(0, os.SEEK_END)
    file.seek(end)
    frames = 0
    while frames < limit and (length := _item_length(file)) is not None:
        if file.seek(length, os.SEEK_CUR) > size:
            break
        frames += length >= _SHORTEST_FRAME
    return frames


def _item_length(file: BinaryIO) -> int | None:
    """Return the length of the item that begins here (PS3.5 7.5), or None if none does."""
    head = file.read(8)
    return int.from_bytes(head[4:], "little") if len(head) == 8 and head[:4] == _ITEM else None
