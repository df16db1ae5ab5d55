"""Deflated data sets (PS3.5 Section A.5): inflated to the end of their stream in bounded memory."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

from .errors import StructureError

MAX_INFLATED_BYTES = 4 << 30
# So much is returned to be walked over; that the rest is whole the stream itself tells.
WALKED_BYTES = 8 << 20
_INFLATE_STEP = 1 << 20
_DEFLATED_STEP = 1 << 16


def inflate(data: bytes | bytearray | memoryview) -> tuple[bytearray, bool]:
    """Inflate a deflated data set (PS3.5 A.5, RFC 1951) to the end of its stream.

    Returns
    -------
    bytearray
        Its first 8 MiB: a stream of one megabyte can inflate to a gigabyte.
    bool
        Whether that is all.

    Raises
    ------
    StructureError
        If the stream is damaged, truncated, followed by other bytes, or inflates to more than four
        gigabytes.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    begun = bytearray()
    n_bytes = crc = 0
    try:
        for part in _inflated(stream, memoryview(data)):
            begun += part[: max(0, WALKED_BYTES - n_bytes)]
            n_bytes += len(part)
            crc = zlib.crc32(part, crc)
            if n_bytes > MAX_INFLATED_BYTES:
                raise StructureError("the deflated data set inflates to more than 4 GiB")
    except zlib.error as error:
        raise StructureError("the deflated data set is damaged") from error
    if not stream.eof:
        raise StructureError("the deflated data set is truncated")
    # One byte of padding to even length, or the trailer of a sender that deflates as gzip does.
    trailer = struct.pack("<LL", crc, n_bytes & 0xFFFFFFFF)
    if stream.unused_data not in (b"", b"\0", trailer):
        raise StructureError("bytes follow the end of the deflated data set")
    return begun, n_bytes <= WALKED_BYTES


def _inflated(stream: Any, data: memoryview) -> Iterator[bytes]:
    """Yield what a stream inflates to, a megabyte at most at once."""
    for at in range(0, len(data), _DEFLATED_STEP):
        rest: bytes | memoryview = data[at : at + _DEFLATED_STEP]
        while len(rest) and not stream.eof:
            yield stream.decompress(rest, _INFLATE_STEP)
            rest = stream.unconsumed_tail
        if stream.eof:
            # What follows the end adds to what is unused; so many bytes are no trailer.
            stream.decompress(data[at + _DEFLATED_STEP :][:16])
            return
    while not stream.eof and (part := stream.decompress(b"", _INFLATE_STEP)):
        yield part
