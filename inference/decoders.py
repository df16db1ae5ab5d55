"""One frame of an image by the first decoder that reads it, in the order of `decoder_table`.

imagecodecs is no plugin of pydicom and is called directly for the two syntaxes that nothing else
here reads, JPEG Lossless and 12-bit JPEG, and as the last to try HTJ2K.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    RLELossless,
)

from .codestream import has_end
from .decoder_table import PREFERENCE, DecodingError, undecodable
from .functional_groups import DAMAGE, element, transfer_syntax, whole_number
from .held_frames import held_frames
from .known_values import KnownDataset

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


class _DamagedError(Exception):
    """What this module itself finds wrong; the message may be shown, unlike a library's."""


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
        except BaseException as error:
            if not _is_panic(error):
                raise
            attempts.append(f"{name}: {type(error).__name__}")
    raise undecodable(syntax, "; ".join(attempts) or "no decoder for it is installed")


def _is_panic(error: BaseException) -> bool:
    """Tell whether a decoder written in Rust gave up: what it raises then is no Exception.

    The class has no address, as each such library makes its own of that name.
    """
    return type(error).__module__ == "pyo3_runtime"


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
    """Refuse a codestream without an end: some decoders fill what is missing with grey."""
    if not has_end(frame):
        raise _DamagedError("the codestream has no end marker, the pixel data is truncated")
