"""DICOM files (PS3.10 Section 7): the head that is put before received bytes, and its removal."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

from .errors import Part10Error

# Derived from a random UUID (PS3.5 B.2); names the implementation, whatever its version.
IMPLEMENTATION_CLASS_UID = "2.25.129952454429659626447457658158947351020"
_PREFIX_END = 132
# Of the elements of group 2 (PS3.10 Section 7.1).
_META_VRS = frozenset((b"AE", b"OB", b"SH", b"UI", b"UL", b"UR"))


def implementation_version_name() -> str:
    """Return the Implementation Version Name, at most 16 characters (PS3.7 D.3.3.2.2)."""
    try:
        return f"PREREAD_{version('preread')}"[:16]
    except PackageNotFoundError:
        return "PREREAD"


@lru_cache(maxsize=1024)
def _tail(transfer_syntax_uid: str, source_ae: str) -> bytes:
    """Everything after the SOP Instance UID: it is the same for all instances of a context."""
    return (
        _element(0x0010, b"UI", transfer_syntax_uid)
        + _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID)
        + _element(0x0013, b"SH", implementation_version_name())
        + _element(0x0016, b"AE", source_ae[:16])
    )


def file_head(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_ae: str
) -> bytes:
    """Return preamble, prefix and file meta information for a received data set.

    Packed by hand because it is written for every image: pydicom takes a hundred times as long.
    """
    meta = (
        _element(0x0001, b"OB", "\0\1")
        + _element(0x0002, b"UI", sop_class_uid)
        + _element(0x0003, b"UI", sop_instance_uid)
        + _tail(transfer_syntax_uid, source_ae)
    )
    length = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta))
    return bytes(128) + b"DICM" + length + meta


def _element(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    if vr == b"OB":
        return struct.pack("<HH2sHL", 2, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


@dataclass(frozen=True, slots=True)
class FileLayout:
    """Where the data set of a DICOM file lies, how it is encoded, and what the head says it is.

    The two UIDs of the head (PS3.10 Section 7.1) are empty where it does not name them. Where the
    head has a value representation that it must not have, others may read it in another way.
    """

    transfer_syntax_uid: str
    data_set_offset: int
    sop_class_uid: str
    sop_instance_uid: str
    has_odd_vr: bool = False


def read_layout(data: bytes | memoryview) -> FileLayout:
    """Read the file meta information of a DICOM file.

    Parameters
    ----------
    data : bytes
        The whole file, or a memory map of it.

    Raises
    ------
    Part10Error
        If the prefix is missing, the file meta information is damaged or names no transfer syntax.
    """
    if bytes(data[128:_PREFIX_END]) != b"DICM":
        raise Part10Error("not a DICOM file: no DICM prefix at byte 128 (PS3.10 Section 7.1)")
    elements, end, has_odd_vr = _meta_elements(data)
    sop_class, sop_instance, syntax = (
        elements.get(tag, b"").decode("ascii", "replace").strip(" \0")
        for tag in (0x00020002, 0x00020003, 0x00020010)
    )
    if not syntax:
        raise Part10Error("not a usable DICOM file: no Transfer Syntax UID (0002,0010)")
    return FileLayout(syntax, end, sop_class, sop_instance, has_odd_vr)


def _meta_elements(data: bytes | memoryview) -> tuple[Mapping[int, bytes], int, bool]:
    """Elements of group 2; followed one by one, because the group length is often wrong."""
    values: dict[int, bytes] = {}
    at, has_odd_vr = _PREFIX_END, False
    while at + 8 <= len(data) and bytes(data[at : at + 2]) == b"\2\0":
        _, element, vr, length = struct.unpack_from("<HH2sH", data, at)
        at += 8
        has_odd_vr |= vr not in _META_VRS
        if vr in (b"OB", b"UN", b"UT"):
            if at + 4 > len(data):
                break
            (length,) = struct.unpack_from("<L", data, at)
            at += 4
        if at + length > len(data):
            raise Part10Error(f"truncated in the file meta information, at (0002,{element:04X})")
        values[0x00020000 | element] = bytes(data[at : at + length])
        at += length
    return values, at, has_odd_vr
