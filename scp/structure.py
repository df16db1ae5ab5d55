"""The structure of an encoded data set: a walk over its elements, to its very end.

Values are not read, so the walk costs the same for ten kilobytes of pixels and for ten megabytes.
Elements of defined length are stepped over; what has undefined length (sequences, items,
encapsulated pixel data) is followed to its delimiter. A data set that the walk accepts ends where
its encoding says, which is how truncation and trailing garbage are told from a whole one. The order
of elements and the parity of lengths are not judged: senders get both wrong in data sets that are
otherwise whole, and refusing those would lose images.
"""

from __future__ import annotations

import struct
import sys
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .deflate import inflate
from .errors import StructureError

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
# GE's private syntax: implicit VR little endian with big endian pixels.
_IMPLICIT = frozenset({IMPLICIT_LITTLE, "1.2.840.113619.5.2"})
# Deflated Explicit VR Little Endian and two JPIP Referenced Deflate syntaxes (PS3.5 Annex A).
_DEFLATED = frozenset(
    {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)

_UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
# VRs with a 16-bit length; all others, future ones too, have two reserved bytes and 32 bits
# (PS3.5 Section 7.1.2).
_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
# These have 32 bits whoever reads them; where a later edition's begin and end is told by who reads.
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_VRS = _SHORT | _LONG
_IMPLICIT_VRS = frozenset((b"",))
_FRAGMENTED = frozenset((b"OB", b"OW"))
# Float, Double Float and Pixel Data.
_PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
# Of a wanted value so much is returned: more than any that identifies may have.
_MAX_VALUE = 8192
_CUT = 8 + _MAX_VALUE
# No object of the standard nests sequences deeper than about ten; more is an attack on the stack.
_MAX_DEPTH = 64
# What is inflated takes memory that nobody has sent: it is taken once.
_ONE_INFLATION = threading.Lock()


_TOO_MANY = "more elements than so few bytes can hold"


class _CutError(StructureError):
    """The data set ends inside an element."""


class BeyondError(Exception):
    """The beginning of the data set does not suffice: more of it has to be looked at."""


@dataclass(frozen=True, slots=True)
class Elements:
    """What a walk found.

    Attributes
    ----------
    values : mapping of int to bytes
        Raw values of the wanted elements of the outermost data set that are present.
    little_endian : bool
        Byte order of binary values.
    n_elements : int
        Elements of the outermost data set.
    """

    values: Mapping[int, bytes]
    little_endian: bool
    n_elements: int


def tag_text(tag: int) -> str:
    """Return a tag as it is usually written, ``(0008,0018)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def walk(
    data: bytes | bytearray | memoryview,
    transfer_syntax_uid: str,
    wanted: Collection[int] = (),
    size: int | None = None,
) -> Elements:
    """Walk an encoded data set to its end.

    Parameters
    ----------
    data : bytes
        The data set alone, without file meta information; or its beginning, if `size` is given.
    transfer_syntax_uid : str
        Its transfer syntax. One that is not known is taken as Explicit VR Little Endian, which is
        what every encapsulated syntax uses (PS3.5 A.4).
    wanted : collection of int
        Tags (group << 16 | element) whose values to return.
    size : int or None
        Size of the whole data set in bytes.

    Raises
    ------
    StructureError
        If the data set is truncated, goes on after its end, or is no data set.
    BeyondError
        If `data` is the beginning only, and what has to be looked at lies behind it.
    """
    if size is not None and len(data) < size:
        return _walk_beginning(data, transfer_syntax_uid, frozenset(wanted), size)
    if transfer_syntax_uid in _DEFLATED:
        with _ONE_INFLATION:
            inflated, is_whole = inflate(data)
            walker = _Walker(inflated, True, _most_elements(len(data)), is_whole=is_whole)
            return walker.elements(False, frozenset(wanted))
    little = transfer_syntax_uid != EXPLICIT_BIG
    walker = _Walker(data, little)
    return walker.elements(transfer_syntax_uid in _IMPLICIT, frozenset(wanted))


def encodings(
    data: bytes | memoryview, transfer_syntax_uid: str, wanted: Collection[int], size: int
) -> bytes:
    """Return the wanted elements ahead of the pixels as they are encoded, one after another.

    Of the outermost data set, header and value, sequences with all their items; also whatever else
    has undefined length. What two data sets say by these elements is the same if these bytes are,
    and the transfer syntaxes: whoever reads them steps over all others by their lengths.

    Parameters
    ----------
    data : bytes
        The data set, or its beginning.
    transfer_syntax_uid : str
    wanted : collection of int
        Tags (group << 16 | element).
    size : int
        Size of the whole data set in bytes.

    Raises
    ------
    StructureError
        If the data set is truncated or is none.
    BeyondError
        If that cannot be told from its beginning, or others may read it in another way.
    """
    if transfer_syntax_uid in _DEFLATED:
        raise BeyondError
    walker = _Walker(data, transfer_syntax_uid != EXPLICIT_BIG, size=size)
    try:
        return walker.encodings(transfer_syntax_uid in _IMPLICIT, frozenset(wanted))
    except struct.error:  # nothing else unpacks behind the end of `data`
        raise BeyondError from None


def _walk_beginning(
    data: bytes | bytearray | memoryview,
    transfer_syntax_uid: str,
    wanted: frozenset[int],
    size: int,
) -> Elements:
    if transfer_syntax_uid in _DEFLATED:
        raise BeyondError
    walker = _Walker(data, transfer_syntax_uid != EXPLICIT_BIG, size=size)
    try:
        return walker.elements(transfer_syntax_uid in _IMPLICIT, wanted)
    except struct.error:  # nothing else unpacks behind the end of `data`
        raise BeyondError from None


def _most_elements(n_deflated: int) -> int:
    """How many elements a deflated data set may have; empty ones deflate to almost nothing."""
    return 10_000 + 4 * n_deflated


def _misplaced(tag: int, at: int) -> str:
    if tag >> 16 == 0x0004:
        return "a media directory (DICOMDIR), no instance"
    return f"{tag_text(tag)} at byte {at} is no data element"


def _is_vr(code: bytes) -> bool:
    return len(code) == 2 and 0x41 <= code[0] <= 0x5A and 0x41 <= code[1] <= 0x5A


class _Walker:
    """One walk over one buffer. Positions are byte offsets; methods return the next one."""

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        little: bool,
        most_elements: int = sys.maxsize,
        *,
        is_whole: bool = True,
        size: int | None = None,
    ) -> None:
        self._data = data
        self._little = little
        self._most_elements = most_elements
        self._n_headers = 0
        self._is_whole = is_whole
        self._n_here = len(data)
        self._end = self._n_here if size is None else size
        order = "<" if little else ">"
        self._explicit = struct.Struct(order + "HH2sH").unpack_from
        self._implicit = struct.Struct(order + "HHL").unpack_from
        self._long = struct.Struct(order + "L").unpack_from

    def elements(self, implicit: bool, wanted: frozenset[int]) -> Elements:
        values: dict[int, bytes] = {}
        try:
            n_elements = self._outermost(implicit, wanted, values)
        except _CutError:
            if self._is_whole:
                raise
            n_elements = self._n_headers + len(values)
        if not n_elements:
            raise StructureError("the data set is empty")
        return Elements(values, self._little, n_elements)

    def encodings(self, implicit: bool, wanted: frozenset[int]) -> bytes:
        # Other readers tell by the first length whether there are VRs.
        if implicit and _is_vr(bytes(self._data[4:6])):
            raise BeyondError
        found = []
        at = 0
        while at < self._end:
            start = at
            tag, vr, length, value = self._header(at, implicit)
            if tag in _PIXELS:
                break
            if not 8 <= tag >> 16 < 0xFFFE or vr not in (_IMPLICIT_VRS if implicit else _VRS):
                raise BeyondError
            at = self._after_value(tag, vr, length, value, implicit, 0)
            # What has no length others have to parse as well, and may fail to.
            if tag in wanted or length == _UNDEFINED:
                if at > self._n_here:
                    raise BeyondError
                found.append(bytes(self._data[start:at]))
        return b"".join(found)

    def _outermost(self, implicit: bool, wanted: frozenset[int], values: dict[int, bytes]) -> int:
        end, most = self._end, self._most_elements
        at = count = 0
        while at < end:
            if not implicit:
                at, count = self._plain_elements(at, count, wanted, values)
                if at == end:
                    break
            if count > most:
                raise StructureError(_TOO_MANY)
            tag, vr, length, value = self._header(at, implicit)
            # Groups below 8 belong to commands, files and directories of media (PS3.5 7.1).
            if tag < 0x00080000 or tag >> 16 == 0xFFFE:
                raise StructureError(_misplaced(tag, at), tag)
            at = self._after_value(tag, vr, length, value, implicit, 0)
            count += 1
            if tag in wanted and length != _UNDEFINED:
                values[tag] = self._value(value, at)
        return count

    def _plain_elements(
        self, at: int, count: int, wanted: frozenset[int], values: dict[int, bytes]
    ) -> tuple[int, int]:
        """Go past text and numbers in explicit VR, nine elements of ten, without another call."""
        data, explicit, short = self._data, self._explicit, _SHORT
        limit, most = min(self._end, self._n_here), self._most_elements
        last = limit - 8
        while at <= last and count <= most:
            group, element, vr, length = explicit(data, at)
            after = at + 8 + length
            if vr not in short or after > limit or not 8 <= group < 0xFFFE:
                break
            if (tag := group << 16 | element) in wanted:
                values[tag] = bytes(data[at + 8 : after if length <= _MAX_VALUE else at + _CUT])
            at = after
            count += 1
        return at, count

    def _value(self, start: int, end: int) -> bytes:
        end = min(end, start + _MAX_VALUE)
        if end > self._n_here:
            raise BeyondError
        return bytes(self._data[start:end])

    def _header(self, at: int, implicit: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR (empty where there is none), length and the position of the value."""
        self._n_headers += 1
        if self._n_headers > self._most_elements:
            raise StructureError(_TOO_MANY)
        if at + 8 > self._end:
            raise _CutError(f"truncated at byte {at}, inside the header of an element")
        if implicit:
            group, element, length = self._implicit(self._data, at)
            return group << 16 | element, b"", length, at + 8
        group, element, vr, length = self._explicit(self._data, at)
        tag = group << 16 | element
        if group == 0xFFFE:
            return tag, b"", self._long(self._data, at + 4)[0], at + 8
        if vr in _SHORT:
            return tag, vr, length, at + 8
        if not _is_vr(vr):
            raise StructureError(f"{tag_text(tag)} at byte {at} has no value representation", tag)
        if at + 12 > self._end:
            raise _CutError(f"truncated at byte {at}, in {tag_text(tag)}", tag)
        return tag, vr, self._long(self._data, at + 8)[0], at + 12

    def _delimits(self, at: int) -> bool:
        return at + 8 <= self._end and self._implicit(self._data, at)[0] == 0xFFFE

    def _after_value(
        self, tag: int, vr: bytes, length: int, value: int, implicit: bool, depth: int
    ) -> int:
        if length != _UNDEFINED:
            if value + length > self._end:
                raise _CutError(
                    f"truncated in {tag_text(tag)}: {self._end - value} of {length} bytes", tag
                )
            return value + length
        if depth >= _MAX_DEPTH:
            raise StructureError(f"{tag_text(tag)} is nested too deeply", tag)
        if vr in _FRAGMENTED or tag == 0x7FE00010:
            return self._after_items(tag, value, None, depth)
        if vr not in (b"", b"SQ", b"UN"):
            raise StructureError(f"{tag_text(tag)} has undefined length, but is no sequence", tag)
        # A sequence that someone relabelled UN keeps its implicit encoding (PS3.5 6.2.2 note 2).
        return self._after_items(tag, value, implicit or vr == b"UN", depth)

    def _after_items(self, tag: int, at: int, implicit: bool | None, depth: int) -> int:
        """Go past the items of `tag` and their delimiter; `implicit` is None for fragments."""
        while True:
            if at + 8 > self._end:
                raise _CutError(f"truncated inside {tag_text(tag)}", tag)
            group, element, length = self._implicit(self._data, at)
            delimiter = group << 16 | element
            at += 8
            if delimiter == _SEQUENCE_END:
                return at
            if delimiter != _ITEM or (implicit is None and length == _UNDEFINED):
                raise StructureError(f"{tag_text(tag)} holds what is no item", tag)
            if length != _UNDEFINED:
                at += length
            elif implicit is not None:
                at = self._after_item(tag, at, implicit, depth + 1)

    def _after_item(self, sequence: int, at: int, implicit: bool, depth: int) -> int:
        # Some senders put items with implicit VR into a data set with explicit VR.
        implicit = implicit or not (
            self._delimits(at) or _is_vr(bytes(self._data[at + 4 : at + 6]))
        )
        while at < self._end:
            tag, vr, length, value = self._header(at, implicit)
            if tag == _ITEM_END:
                return value
            if tag >> 16 == 0xFFFE:
                raise StructureError(f"an item of {tag_text(sequence)} has no end", sequence)
            at = self._after_value(tag, vr, length, value, implicit, depth)
        raise _CutError(f"truncated inside an item of {tag_text(sequence)}", sequence)
