"""Data sets as bytes: Explicit VR Little Endian (PS3.5 7.1.2), as pydicom writes it, but sooner.

A report is thousands of short strings in nested items, for each of which pydicom makes a buffer of
its own. What we built ourselves is such strings and items; everything else is left to pydicom.
"""

from __future__ import annotations

import struct
from typing import Final

from pydicom.charset import convert_encodings, encode_string
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr, write_data_element
from pydicom.tag import Tag
from pydicom.valuerep import IS, DSdecimal, DSfloat

_ASCII: Final = "".join(map(chr, range(32, 127)))
# Strings that no character set touches (PS3.5 6.1.2.3), those that one does, and numbers.
_BASIC: Final = frozenset({"AS", "CS", "DA", "DT", "TM", "UI"})
_TEXT: Final = frozenset({"LO", "SH", "UT"})
_NUMBERS: Final = (DSfloat, DSdecimal, IS)
_LONG: Final = frozenset({"SQ", "UT"})  # length in four bytes, after two reserved ones
_MOST: Final = 0xFFFF
_KNOWN: Final = _BASIC | _TEXT | {"DS", "FD", "IS", "SQ", "US"}

_SHORT_HEAD, _LONG_HEAD = struct.Struct("<HH2sH"), struct.Struct("<HH2sHL")
_ITEM_HEAD: Final = struct.Struct("<HHL")
_CHARACTER_SET: Final = Tag("SpecificCharacterSet")


def encoded(ds: Dataset) -> bytes:
    """Return a data set without file meta information.

    Parameters
    ----------
    ds : Dataset
        Built, not read from a file: its values have no earlier encoding that could be kept.
    """
    terms = ds.get("SpecificCharacterSet", "iso8859")
    has_ascii = encode_string(_ASCII, convert_encodings(terms)) == _ASCII.encode()
    correct_ambiguous_vr(ds, True)
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    for tag in sorted(ds.keys()):
        element = ds[tag]
        known = _element(element, has_ascii)
        if known is None:
            write_data_element(file, element, terms)
        else:
            file.write(known)
    return file.getvalue()


def _element(element: object, has_ascii: bool) -> bytes | None:
    """Return an element, or None where pydicom has to write it."""
    if not isinstance(element, DataElement):
        return None
    vr = element.VR
    if vr not in _KNOWN:
        return None
    body = _items(element, has_ascii) if vr == "SQ" else _value(element, has_ascii)
    if body is None or element.is_undefined_length:
        return None
    tag = element.tag
    if vr in _LONG:
        return _LONG_HEAD.pack(tag >> 16, tag & _MOST, vr.encode(), 0, len(body)) + body
    if len(body) > _MOST:
        return None
    return _SHORT_HEAD.pack(tag >> 16, tag & _MOST, vr.encode(), len(body)) + body


def _value(element: DataElement, has_ascii: bool) -> bytes | None:
    value, vr = element.value, element.VR
    if value is None:
        return b""
    if vr == "FD" and isinstance(value, float):
        return struct.pack("<d", value)
    if vr == "US" and isinstance(value, int):
        return struct.pack("<H", value)
    if vr in ("DS", "IS") and isinstance(value, _NUMBERS):
        value = getattr(value, "original_string", None) or str(value)
    elif vr not in _BASIC and not (has_ascii and vr in _TEXT):
        return None
    if not isinstance(value, str) or not value.isascii():
        return None
    padding = "" if len(value) % 2 == 0 else "\0" if vr == "UI" else " "
    return (value + padding).encode()


def _items(sequence: DataElement, has_ascii: bool) -> bytes | None:
    parts: list[bytes] = []
    for item in sequence.value:
        if getattr(item, "is_undefined_length_sequence_item", False) or _CHARACTER_SET in item:
            return None
        start = len(parts)
        parts.append(b"")
        for tag in sorted(item.keys()):
            known = _element(item.get_item(tag), has_ascii)
            if known is None:
                return None
            parts.append(known)
        length = sum(map(len, parts[start:]))
        parts[start] = _ITEM_HEAD.pack(0xFFFE, 0xE000, length)
    return b"".join(parts)
