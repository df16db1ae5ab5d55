"""Which decoder reads which transfer syntax, and in which order they are tried.

pydicom's own order is alphabetical. Ours puts first what was measured to be both exact and fast,
and leaves out pylibjpeg-libjpeg, which is GPL, and GDCM, which ends the process where header and
codestream contradict each other. imagecodecs is no plugin of pydicom and is called
directly for the two syntaxes that nothing else here reads: JPEG Lossless and 12-bit JPEG.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from .errors import InferenceError
from .functional_groups import DAMAGE, element, holds, transfer_syntax, whole_number
from .known_values import KnownDataset

# Names of pydicom's plugins, best first; "imagecodecs" is ours.
PREFERENCE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        JPEGBaseline8Bit: ("pillow",),
        JPEGExtended12Bit: ("pillow", "imagecodecs"),
        JPEGLossless: ("imagecodecs",),
        JPEGLosslessSV1: ("imagecodecs",),
        JPEGLSLossless: ("pyjpegls",),
        JPEGLSNearLossless: ("pyjpegls",),
        JPEG2000Lossless: ("pylibjpeg", "pillow"),
        JPEG2000: ("pylibjpeg", "pillow"),
        HTJ2KLossless: ("pylibjpeg", "imagecodecs"),
        HTJ2KLosslessRPCL: ("pylibjpeg", "imagecodecs"),
        HTJ2K: ("pylibjpeg", "imagecodecs"),
        RLELossless: ("pylibjpeg", "pydicom"),
    }
)

_IMAGECODECS: Mapping[str, Callable[[bytes], NDArray[Any]]] = MappingProxyType(
    {
        JPEGExtended12Bit: imagecodecs.jpeg8_decode,
        JPEGLossless: imagecodecs.jpeg8_decode,
        JPEGLosslessSV1: imagecodecs.jpeg8_decode,
        HTJ2KLossless: imagecodecs.jpeg2k_decode,
        HTJ2KLosslessRPCL: imagecodecs.jpeg2k_decode,
        HTJ2K: imagecodecs.jpeg2k_decode,
    }
)

# Every JPEG codestream ends with the marker EOI or EOC, whose code is the same.
_END_MARKER = b"\xff\xd9"

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_ITEM = b"\xfe\xff\x00\xe0"
# No frame is shorter: RLE begins with 64 bytes of header (PS3.5 G.5), the markers of a JPEG
# codestream alone are more than 25.
_SHORTEST_FRAME = 26


class DecodingError(InferenceError):
    """Pixel data cannot be decoded; the message names the transfer syntax and each attempt."""


class _DamagedError(Exception):
    """What this module itself finds wrong; the message may be shown, unlike a library's."""


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
        raise DecodingError(_cannot(syntax, "no decoder for it is installed"))
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


def decode_frame(dataset: Dataset, index: int) -> tuple[NDArray[Any], str]:
    """Decode one frame.

    Parameters
    ----------
    dataset : Dataset
        With file meta information, the Image Pixel module and Pixel Data.
    index : int
        Frame, from 0.

    Returns
    -------
    ndarray, (rows, columns) or (rows, columns, 3)
        Stored values; colour as RGB. Native and RLE data still carry their unused bits.
    str
        Photometric Interpretation of the array.

    Raises
    ------
    DecodingError
        If no decoder can read the frame.
    """
    pixels, photometric, _ = decode_frame_told(dataset, index)
    return pixels, photometric


def decode_frame_told(dataset: Dataset, index: int) -> tuple[NDArray[Any], str, bool]:
    """Do the same, and tell whether it took another decoder than the first of its syntax.

    That is told of images that are opened by their facts, as a reader does.
    """
    indexed = isinstance(dataset, KnownDataset)
    tried = False
    if isinstance(dataset, KnownDataset):
        if (read := dataset.frame(index)) is not None:
            return *read, False
        tried = dataset.is_direct(index)
    syntax = transfer_syntax(dataset)
    attempts: list[str] = []
    for name, attempt in _attempts(dataset, index, syntax):
        try:
            return *attempt(), tried or (indexed and bool(attempts))
        except (DecodingError, _DamagedError) as error:
            attempts.append(f"{name}: {error}")
        except DAMAGE as error:
            # The message may quote the header; only the kind of error is said.
            attempts.append(f"{name}: {type(error).__name__}")
    raise DecodingError(_cannot(syntax, "; ".join(attempts) or "no decoder for it is installed"))


def _cannot(syntax: UID, why: str) -> str:
    name = f"transfer syntax {syntax.name}" if syntax.is_transfer_syntax else "the transfer syntax"
    return f"{name} cannot be decoded ({why})"


_Attempt = Callable[[], tuple[NDArray[Any], str]]


def _attempts(dataset: Dataset, index: int, syntax: UID) -> Iterator[tuple[str, _Attempt]]:
    if not syntax.is_transfer_syntax:
        return
    if not syntax.is_encapsulated:
        yield "pydicom", lambda: _native(dataset, index, syntax)
        return
    available = _available(syntax)
    for name in PREFERENCE.get(syntax, ()):
        if name == "imagecodecs":
            yield name, lambda: _with_imagecodecs(dataset, index, syntax)
        elif name in available:
            yield (
                name,
                lambda plugin=name: _with_pydicom(  # type: ignore[misc]
                    dataset, index, syntax, plugin
                ),
            )


def _available(syntax: UID) -> tuple[str, ...]:
    try:
        return tuple(get_decoder(syntax).available_plugins)
    except NotImplementedError:  # pydicom knows no decoder for the syntax, e.g. for video
        return ()


def _native(dataset: Dataset, index: int, syntax: UID) -> tuple[NDArray[Any], str]:
    if held_frames(dataset, index + 1) <= index:
        raise _DamagedError("the pixel data end before the frame does")
    return _with_pydicom(dataset, index, syntax, "")


def _with_pydicom(
    dataset: Dataset, index: int, syntax: UID, plugin: str
) -> tuple[NDArray[Any], str]:
    if plugin and syntax.startswith("1.2.840.10008.1.2.4."):
        _require_end(_encapsulated_frame(dataset, index))
    # Unused bits of whole cells are ours: pydicom takes High Bit to be Bits Stored - 1.
    options: dict[str, Any] = {"correct_unused_bits": bool(plugin) and syntax != RLELossless}
    pixels, properties = get_decoder(syntax).as_array(
        dataset, index=index, decoding_plugin=plugin, **options
    )
    return pixels, str(properties["photometric_interpretation"])


def _with_imagecodecs(dataset: Dataset, index: int, syntax: UID) -> tuple[NDArray[Any], str]:
    frame = _encapsulated_frame(dataset, index)
    _require_end(frame)
    pixels = _IMAGECODECS[syntax](frame)
    samples = int(dataset.SamplesPerPixel)
    shape = (int(dataset.Rows), int(dataset.Columns)) + ((samples,) if samples > 1 else ())
    if pixels.shape != shape:
        raise _DamagedError(f"decoded to {pixels.shape}, the header says {shape}")
    bits = int(dataset.BitsStored)
    if int(dataset.PixelRepresentation) == 1:
        pixels = sign_extended(pixels, bits)
    elif syntax == JPEGExtended12Bit:
        # What lossy compression makes brighter than white is white; cut to its bits it were black.
        pixels = pixels.clip(0, 2**bits - 1)
    elif bits < pixels.dtype.itemsize * 8:
        pixels = pixels & pixels.dtype.type(2**bits - 1)
    return pixels, "RGB" if samples > 1 else str(dataset.PhotometricInterpretation)


def sign_extended(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """Give values that were decoded as unsigned the sign that `bits` stored bits carry."""
    shift = 32 - bits
    return (pixels.astype(np.int32) << shift) >> shift


def _encapsulated_frame(dataset: Dataset, index: int) -> bytes:
    count = max(1, whole_number(dataset, "NumberOfFrames") or 1)
    table = element(dataset, "ExtendedOffsetTable")
    lengths = element(dataset, "ExtendedOffsetTableLengths")
    both = isinstance(table, bytes) and isinstance(lengths, bytes)
    return get_frame(
        dataset.PixelData,
        index,
        number_of_frames=count,
        extended_offsets=(table, lengths) if both else None,
    )


def _require_end(frame: bytes) -> None:
    """Refuse a codestream without an end: some decoders fill what is missing with grey.

    Only the last bytes are looked at: padding follows the marker in real files.
    """
    if _END_MARKER not in frame[-16:]:
        raise _DamagedError("the codestream has no end marker, the pixel data is truncated")
