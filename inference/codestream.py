"""What a codestream says of itself: its process, its size, and that it is whole. Light."""

from __future__ import annotations

from dataclasses import dataclass

# Every JPEG codestream ends with the marker EOI or EOC, whose code is the same.
_END_MARKER = b"\xff\xd9"
# Start of frame of JPEG and of JPEG-LS: the code of the marker, of those that are read here.
_SOF = {0xC0: "baseline", 0xC1: "extended", 0xC3: "lossless", 0xF7: "jpeg-ls"}


@dataclass(frozen=True, slots=True)
class Codestream:
    """What the header of a codestream says.

    Attributes
    ----------
    process : str
        Of JPEG: ``baseline``, ``extended`` or ``lossless``; ``jpeg-ls``; ``jpeg-2000``.
    precision : int
        Bits of a sample.
    rows, columns, components : int
    signed : bool
        JPEG 2000: samples have a sign.
    """

    process: str
    precision: int
    rows: int
    columns: int
    components: int
    signed: bool = False


def has_end(frame: bytes) -> bool:
    """Return whether a codestream has its end: padding follows the marker in real files."""
    return _END_MARKER in frame[-16:]


def jpeg_header(frame: bytes) -> Codestream | None:
    """Read the frame header of JPEG or JPEG-LS (ISO/IEC 10918-1 B.2.2, 14495-1 C.2.2).

    None where there is none, or one of another process, or the codestream has no end.
    """
    if frame[:2] != b"\xff\xd8" or not has_end(frame):
        return None
    at = 2
    while at + 10 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if (process := _SOF.get(marker)) is not None:
            return Codestream(
                process,
                precision=frame[at + 4],
                rows=int.from_bytes(frame[at + 5 : at + 7], "big"),
                columns=int.from_bytes(frame[at + 7 : at + 9], "big"),
                components=frame[at + 9],
            )
        if marker == 0xDA:  # the scan begins and no frame header was seen
            return None
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def jpeg_2000_header(frame: bytes) -> Codestream | None:
    """Read the SIZ marker segment of a JPEG 2000 codestream (ISO/IEC 15444-1 A.5.1).

    None where the codestream does not begin with it, or has no end.
    """
    if frame[:4] != b"\xff\x4f\xff\x51" or len(frame) < 45 or not has_end(frame):
        return None
    right, bottom, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
    return Codestream(
        "jpeg-2000",
        precision=(frame[42] & 0x7F) + 1,
        rows=bottom - top,
        columns=right - left,
        components=int.from_bytes(frame[40:42], "big"),
        signed=bool(frame[42] & 0x80),
    )
