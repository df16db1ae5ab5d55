"""Encoded data sets with nested sequences and fragments, in all transfer syntaxes."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from conversation import DEFLATED, JPEG, PRIVATE_SYNTAX
from encoded import EXPLICIT_BIG
from inputs import Rng
from raw_pdus import CT_IMAGE, EXPLICIT_LITTLE, IMPLICIT_LITTLE

GE_PRIVATE = "1.2.840.113619.5.2"
JPIP_DEFLATE = "1.2.840.10008.1.2.4.95"
SYNTAXES = (
    EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED, JPEG, PRIVATE_SYNTAX, GE_PRIVATE,
    JPIP_DEFLATE,
)  # fmt: skip
_DEFLATED = (DEFLATED, JPIP_DEFLATE)
_UNDEFINED = 0xFFFFFFFF
_LONG = (b"OB", b"OW", b"UN", b"UT", b"SQ", b"UC", b"OV")
_TEXTS = (
    b"PHANTOM^HEAD", b"", b"\0\0", b"1.2.3.4", b"20240101", b"2024.01.01", b"-12345678901 ",
    b"\xe4\xf6\xfc", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", b"\x1b" * 7, b"A\\B\\C", b"=" * 64,
    b"^" * 9, b"\xff\xfe\0\xd8", b"\xed\xa0\x80",
)  # fmt: skip
CHARACTER_SETS = (
    b"", b"ISO_IR 100", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"ISO 2022 IR 6\\ISO 2022 IR 149",
    b"GB18030", b"GBK", b"ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159", b"punycode", b"utf_7",
    b"ISO_IR 192\\ISO 2022 IR 87", b"\0", b"\\\\\\", b"idna", b"unicode_escape", b"utf-16", b"hex",
    b"ISO 2022 IR 58", b"ISO_IR 13",
)  # fmt: skip
_TAGS = (
    0x00080020, 0x00080050, 0x00080060, 0x00081030, 0x0008103E, 0x00100010, 0x00100020, 0x00100030,
    0x00100040, 0x00180015, 0x00200011, 0x00200013, 0x00280010, 0x00091001, 0x40FE0001,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are written (PS3.5 Section 7.1)."""

    order: str
    implicit: bool

    def element(self, tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
        length = len(value) if length is None else length
        head = struct.pack(self.order + "HH", tag >> 16, tag & 0xFFFF)
        if self.implicit:
            return head + struct.pack(self.order + "L", length & _UNDEFINED) + value
        if vr in _LONG:
            return head + vr + struct.pack(self.order + "HL", 0, length & _UNDEFINED) + value
        return head + vr + struct.pack(self.order + "H", length & 0xFFFF) + value

    def item(self, tag: int, value: bytes, length: int | None = None) -> bytes:
        length = len(value) if length is None else length
        return struct.pack(self.order + "HHL", tag >> 16, tag & 0xFFFF, length) + value


def encoding_of(syntax: str) -> Encoding:
    implicit = syntax in (IMPLICIT_LITTLE, GE_PRIVATE)
    return Encoding(">" if syntax == EXPLICIT_BIG else "<", implicit)


def sequence(rng: Rng, how: Encoding, depth: int) -> bytes:
    """A sequence of items, of defined or undefined length."""
    items = b""
    for _ in range(rng.small(3)):
        body = elements(rng, how, depth - 1)
        if rng.chance(0.5):
            items += how.item(0xFFFEE000, body)
        else:
            end = how.item(0xFFFEE00D, b"")
            items += how.item(0xFFFEE000, body + end, _UNDEFINED)
    vr = rng.choice((b"SQ", b"SQ", b"SQ", b"UN"))
    if rng.chance(0.5):
        return how.element(0x00081140, vr, items)
    return how.element(0x00081140, vr, items + how.item(0xFFFEE0DD, b""), _UNDEFINED)


def fragments(rng: Rng, how: Encoding) -> bytes:
    parts = b"".join(
        how.item(0xFFFEE000, rng.randbytes(2 * rng.small(20))) for _ in range(1 + rng.small(4))
    )
    return how.element(0x7FE00010, b"OB", parts + how.item(0xFFFEE0DD, b""), _UNDEFINED)


def elements(rng: Rng, how: Encoding, depth: int) -> bytes:
    """Some elements, in any order."""
    encoded = b""
    for _ in range(rng.small(5)):
        if depth and rng.chance(0.4):
            encoded += sequence(rng, how, depth)
            continue
        text = rng.choice(_TEXTS)
        vr = rng.choice((b"LO", b"PN", b"SH", b"UN", b"UT", b"IS", b"UC", b"ZZ"))
        encoded += how.element(rng.choice(_TAGS), vr, text + b" " * (len(text) % 2))
    return encoded


def encoded_data_set(rng: Rng, syntax: str, depth: int = 4) -> bytes:
    """A data set that is one, before compression."""
    how = encoding_of(syntax)
    uids = b"".join(
        how.element(tag, b"UI", value)
        for tag, value in (
            (0x00080016, CT_IMAGE.encode() + b"\0" * (len(CT_IMAGE) % 2)),
            (0x00080018, b"1.2.3.4\0"),
            (0x0020000D, b"1.2.3.41"),
            (0x0020000E, b"1.2.3.42"),
        )
        if not rng.chance(0.05)
    )
    character_set = rng.choice(CHARACTER_SETS)
    character_set += b" " * (len(character_set) % 2)
    encoded = how.element(0x00080005, b"CS", character_set) + uids + elements(rng, how, depth)
    if rng.chance(0.5):
        encoded += fragments(rng, how)
    return encoded


def compressed(rng: Rng, encoded: bytes) -> bytes:
    deflater = zlib.compressobj(rng.choice((0, 1, 9)), wbits=-zlib.MAX_WBITS)
    content = deflater.compress(encoded) + deflater.flush()
    return content + b"\0" * (len(content) % 2)


def is_deflated(syntax: str) -> bool:
    return syntax in _DEFLATED
