"""One frame from its bytes to its stored values, by the decoder that is fastest for its syntax.

Only what is plain is read here: one sample for each pixel, cells of 8 or 16 bits, a codestream that
says of itself what the header says. Everything else gives None, and `decoders.decode_frame`, which
knows the odd forms and every fall-back, reads it and words the refusal.

What was measured (tests/benchmarks/input): imagecodecs calls libjpeg-turbo, CharLS, OpenJPEG and
OpenJPH as fast as or faster than every other binding that may be installed, with equal values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
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

from .codestream import Codestream, jpeg_2000_header, jpeg_header
from .decoders import sign_extended
from .functional_groups import DAMAGE

# From a codestream to its samples, whatever the header says of them.
Raw = Callable[[bytes], "NDArray[Any]"]
_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")


@dataclass(frozen=True, slots=True)
class Cells:
    """What the header says of the cells of a grey image (PS3.3 C.7.6.3).

    Attributes
    ----------
    rows, columns, allocated, stored, high : int
        Rows, Columns, Bits Allocated, Bits Stored and High Bit.
    signed : bool
        Pixel Representation is 1.
    """

    rows: int
    columns: int
    allocated: int
    stored: int
    high: int
    signed: bool

    @property
    def frame_bytes(self) -> int:
        """Length of a native frame."""
        return self.rows * self.columns * self.allocated // 8

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of stored values, little-endian."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.allocated // 8}")


def is_plain(cells: Cells, samples: int, photometric: str) -> bool:
    """Return whether frames of these cells are read here."""
    return (
        samples == 1
        and photometric in _GREY
        and cells.allocated in (8, 16)
        and 1 <= cells.stored <= cells.high + 1 <= cells.allocated
        and min(cells.rows, cells.columns) >= 1
    )


def is_direct(syntax: UID) -> bool:
    """Return whether a transfer syntax is read here; deflated and big-endian data are not."""
    if syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        return False
    if syntax in DIRECT:
        return True
    return syntax.is_transfer_syntax and not syntax.is_encapsulated


def direct_frame(
    frame: bytes, syntax: UID, cells: Cells, decode: Raw | None = None
) -> NDArray[Any] | None:
    """Decode a frame.

    Parameters
    ----------
    frame : bytes
        Native cells, or the codestream.
    syntax : UID
        Transfer syntax for which `is_direct` holds.
    cells : Cells
        Of which `is_plain` holds.
    decode : callable, optional
        Decodes the codestream in the place of imagecodecs, for `EXCHANGEABLE` syntaxes.

    Returns
    -------
    ndarray, (rows, columns), or None
        The same values, in cells of the same type, as of `decoders.decode_frame`; None where header
        and codestream are not as expected.
    """
    if syntax not in DIRECT:
        if len(frame) != cells.frame_bytes:
            return None
        return np.frombuffer(frame, cells.dtype).reshape(cells.rows, cells.columns)
    try:
        if decode is not None and syntax in EXCHANGEABLE:
            return EXCHANGEABLE[syntax](frame, cells, decode)
        return DIRECT[syntax](frame, cells)
    except DAMAGE:
        return None


def _baseline(
    frame: bytes, cells: Cells, decode: Raw = imagecodecs.jpeg8_decode
) -> NDArray[Any] | None:
    if (cells.allocated, cells.stored, cells.signed) != (8, 8, False):
        return None
    if not _agrees(jpeg_header(frame), cells, 8, "baseline"):
        return None
    return _shaped(decode(frame), cells)


def _extended(frame: bytes, cells: Cells) -> NDArray[Any] | None:
    if cells.allocated != 16 or cells.signed or cells.stored > 12:
        return None
    if not _agrees(jpeg_header(frame), cells, 12, "extended"):
        return None
    pixels = imagecodecs.jpeg8_decode(frame)
    # What lossy compression makes brighter than white is white; cut to its bits it were black.
    return _shaped(pixels.clip(0, 2**cells.stored - 1), cells)


def _lossless(
    frame: bytes, cells: Cells, decode: Raw = imagecodecs.jpeg8_decode
) -> NDArray[Any] | None:
    stream = jpeg_header(frame)
    if stream is None or not _agrees(stream, cells, stream.precision, "lossless"):
        return None
    pixels = decode(frame)
    if pixels.shape != (cells.rows, cells.columns):
        return None
    if cells.signed:
        return sign_extended(pixels, cells.stored)
    if cells.stored < pixels.dtype.itemsize * 8:
        pixels = pixels & pixels.dtype.type(2**cells.stored - 1)
    whole: NDArray[Any] = pixels
    return whole


def _jpeg_ls(frame: bytes, cells: Cells) -> NDArray[Any] | None:
    if not _agrees(jpeg_header(frame), cells, cells.stored, "jpeg-ls"):
        return None
    pixels = imagecodecs.jpegls_decode(frame)
    if cells.signed:
        pixels = sign_extended(pixels, cells.stored)
    return _shaped(pixels, cells)


def _jpeg_2000(frame: bytes, cells: Cells) -> NDArray[Any] | None:
    return _wavelet(frame, cells, imagecodecs.jpeg2k_decode)


def _htj2k(frame: bytes, cells: Cells) -> NDArray[Any] | None:
    return _wavelet(frame, cells, imagecodecs.htj2k_decode)


def _wavelet(frame: bytes, cells: Cells, decode: Raw) -> NDArray[Any] | None:
    stream = jpeg_2000_header(frame)
    if stream is None or stream.signed != cells.signed or stream.precision > cells.stored:
        return None
    if not _agrees(stream, cells, stream.precision, "jpeg-2000"):
        return None
    return _shaped(decode(frame), cells)


def _rle(frame: bytes, cells: Cells) -> NDArray[Any] | None:
    segments = int.from_bytes(frame[:4], "little")
    if segments != cells.allocated // 8:
        return None
    decoded = imagecodecs.dicomrle_decode(frame, cells.dtype)
    if len(decoded) != cells.frame_bytes:
        return None
    return np.frombuffer(decoded, cells.dtype).reshape(cells.rows, cells.columns)


_Decode = Callable[[bytes, Cells], "NDArray[Any] | None"]
_Exchangeable = Callable[[bytes, Cells, Raw], "NDArray[Any] | None"]

# HTJ2K that may be lossy stays with OpenJPEG: of OpenJPH's values one in a hundred differs by 1.
DIRECT: Mapping[str, _Decode] = MappingProxyType(
    {
        JPEGBaseline8Bit: _baseline,
        JPEGExtended12Bit: _extended,
        JPEGLossless: _lossless,
        JPEGLosslessSV1: _lossless,
        JPEGLSLossless: _jpeg_ls,
        JPEGLSNearLossless: _jpeg_ls,
        JPEG2000Lossless: _jpeg_2000,
        JPEG2000: _jpeg_2000,
        HTJ2KLossless: _htj2k,
        HTJ2KLosslessRPCL: _htj2k,
        HTJ2K: _jpeg_2000,
        RLELossless: _rle,
    }
)


# Where another decoder may stand in, such as one of a GPU; all checks stay.
EXCHANGEABLE: Mapping[str, _Exchangeable] = MappingProxyType(
    {
        JPEGBaseline8Bit: _baseline,
        JPEGLossless: _lossless,
        JPEGLosslessSV1: _lossless,
        JPEG2000Lossless: _wavelet,
        JPEG2000: _wavelet,
        HTJ2KLossless: _wavelet,
        HTJ2KLosslessRPCL: _wavelet,
        HTJ2K: _wavelet,
    }
)


def _shaped(pixels: NDArray[Any], cells: Cells) -> NDArray[Any] | None:
    if pixels.shape != (cells.rows, cells.columns) or pixels.dtype.kind not in "iu":
        return None
    return pixels.astype(cells.dtype, copy=False)


def _agrees(stream: Codestream | None, cells: Cells, precision: int, process: str) -> bool:
    """Return whether a codestream says what the header says."""
    return (
        stream is not None
        and (stream.rows, stream.columns) == (cells.rows, cells.columns)
        and (stream.components, stream.precision, stream.process) == (1, precision, process)
    )
