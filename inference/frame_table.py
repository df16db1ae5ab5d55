"""Where each frame of a stored image lies in its file (PS3.5 8.2, A.4)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

_ITEM = b"\xfe\xff\x00\xe0"
_END = b"\xfe\xff\xdd\xe0"
# An image of more fragments, or frames, is none of which each gets an entry: a million frames of
# one pixel are a megabyte in the file, and were 160 of them here.
_MOST_FRAGMENTS = 100_000

Span = tuple[int, int]


class Unlocated(StrEnum):
    """Why frames are not read by their offset; they are read the long way then."""

    UNREADABLE = "unreadable"
    NO_PIXEL_DATA = "no_pixel_data"
    SEVERAL_SAMPLES = "several_samples"
    OTHER_CELLS = "other_cells"
    OTHER_SYNTAX = "other_syntax"
    MISSING_ATTRIBUTES = "missing_attributes"
    TRUNCATED = "truncated"
    ODD_FRAGMENTS = "odd_fragments"
    ODD_OFFSETS = "odd_offsets"
    TOO_MANY_FRAMES = "too_many_frames"


class UnlocatedError(Exception):
    """The frames of a file are not where they can be read by offset; see `code`."""

    def __init__(self, code: Unlocated) -> None:
        super().__init__(str(code))
        self.code = code


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Where frames lie.

    Attributes
    ----------
    spans : tuple of tuple of (int, int)
        Of each frame its parts: offset in the file and length in bytes. A native frame and most of
        the encapsulated ones have one part.
    """

    spans: tuple[tuple[Span, ...], ...]

    def read(self, descriptor: int, index: int) -> bytes:
        """Return the bytes of a frame, from 0.

        Raises
        ------
        UnlocatedError
            TRUNCATED if the file ends before the frame does.
        """
        parts = []
        for offset, length in self.spans[index]:
            part = os.pread(descriptor, length, offset)
            if len(part) != length:
                raise UnlocatedError(Unlocated.TRUNCATED)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def native_table(offset: int, length: int, frame_bytes: int, frames: int) -> FrameTable:
    """Return the table of native pixels: frames of one length, one after the other (PS3.5 8.1.1).

    Raises
    ------
    UnlocatedError
        TRUNCATED if they are shorter than that, TOO_MANY_FRAMES.
    """
    if frames > _MOST_FRAGMENTS:
        raise UnlocatedError(Unlocated.TOO_MANY_FRAMES)
    if frame_bytes < 1 or frames * frame_bytes > length:
        raise UnlocatedError(Unlocated.TRUNCATED)
    return FrameTable(
        tuple(((offset + index * frame_bytes, frame_bytes),) for index in range(frames))
    )


def encapsulated_table(
    file: BinaryIO,
    offset: int,
    frames: int,
    extended: tuple[Sequence[int], Sequence[int]] | None = None,
) -> FrameTable:
    """Return the table of encapsulated pixels.

    Nothing is guessed: where fragments are to be given to frames, an offset table says which
    (PS3.5 A.4, PS3.3 C.7.6.3.1.8), or there is one frame, or one fragment for each.

    Parameters
    ----------
    file : binary file
    offset : int
        Where the Basic Offset Table's item begins.
    frames : int
        As Number of Frames (0028,0008) says.
    extended : pair of sequences of int, optional
        Extended Offset Table and its lengths.

    Raises
    ------
    UnlocatedError
        ODD_FRAGMENTS, ODD_OFFSETS or TRUNCATED.
    """
    file.seek(offset)
    basic = file.read(_item(file))
    first = file.tell()
    fragments = _fragments(file)
    if extended is not None:
        return FrameTable(_by_extended(fragments, first, extended, frames))
    if basic:
        return FrameTable(_by_basic(fragments, first, basic, frames))
    if frames == 1:
        return FrameTable((tuple(fragments),))
    if len(fragments) == frames:
        return FrameTable(tuple((one,) for one in fragments))
    raise UnlocatedError(Unlocated.ODD_FRAGMENTS)


def _item(file: BinaryIO) -> int:
    """Return the length of the item that begins here (PS3.5 7.5)."""
    head = file.read(8)
    if len(head) < 8:
        raise UnlocatedError(Unlocated.TRUNCATED)
    length = int.from_bytes(head[4:], "little")
    if head[:4] != _ITEM or length == 0xFFFFFFFF:
        raise UnlocatedError(Unlocated.ODD_FRAGMENTS)
    return length


def _fragments(file: BinaryIO) -> list[Span]:
    """Return all fragments from here to the delimiter; each must be there as a whole."""
    size = os.fstat(file.fileno()).st_size
    at = file.tell()
    found: list[Span] = []
    while len(found) < _MOST_FRAGMENTS:
        head = os.pread(file.fileno(), 8, at)
        if head[:4] == _END and len(head) == 8:
            if not found:
                raise UnlocatedError(Unlocated.ODD_FRAGMENTS)
            return found
        if len(head) < 8:
            raise UnlocatedError(Unlocated.TRUNCATED)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != _ITEM or length == 0xFFFFFFFF:
            raise UnlocatedError(Unlocated.ODD_FRAGMENTS)
        if at + 8 + length > size:
            raise UnlocatedError(Unlocated.TRUNCATED)
        found.append((at + 8, length))
        at += 8 + length
    raise UnlocatedError(Unlocated.ODD_FRAGMENTS)


def _by_extended(
    fragments: list[Span], first: int, extended: tuple[Sequence[int], Sequence[int]], frames: int
) -> tuple[tuple[Span, ...], ...]:
    offsets, lengths = extended
    if not len(offsets) == len(lengths) == frames:
        raise UnlocatedError(Unlocated.ODD_OFFSETS)
    starts = dict(fragments)
    spans = []
    for offset, length in zip(offsets, lengths, strict=True):
        start = first + offset + 8
        # A frame is one fragment here (C.7.6.3.1.8); the last byte may be one of padding.
        if not 0 <= starts.get(start, -1) - length <= 1:
            raise UnlocatedError(Unlocated.ODD_OFFSETS)
        spans.append(((start, length),))
    return tuple(spans)


def _by_basic(
    fragments: list[Span], first: int, basic: bytes, frames: int
) -> tuple[tuple[Span, ...], ...]:
    offsets = [int.from_bytes(basic[at : at + 4], "little") for at in range(0, len(basic), 4)]
    if len(offsets) != frames or offsets[0] != 0 or sorted(set(offsets)) != offsets:
        raise UnlocatedError(Unlocated.ODD_OFFSETS)
    at = {start - 8 - first: number for number, (start, _) in enumerate(fragments)}
    if any(offset not in at for offset in offsets):
        raise UnlocatedError(Unlocated.ODD_OFFSETS)
    ends = [*(at[offset] for offset in offsets[1:]), len(fragments)]
    return tuple(
        tuple(fragments[at[offset] : end]) for offset, end in zip(offsets, ends, strict=True)
    )
