"""Encoded SOP instances of a phantom, in any transfer syntax, made in microseconds.

The content is a function of the arguments alone, so that a test can say afterwards which bytes
must have been kept.
"""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from collections.abc import Mapping

from raw_pdus import CT_IMAGE, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Instance

EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = frozenset(
    {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)
# Everything else keeps its pixels in fragments (PS3.5 A.4).
_NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, "1.2.840.10008.1.2.1.99"})
_LONG = frozenset({"OB", "OW", "UN", "UT", "SQ"})
_PIXEL_DATA = 0x7FE00010

Elements = Mapping[int, tuple[str, str | int | bytes]]


def uid(*names: object) -> str:
    """A UID that belongs to these names and to nothing else."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def noise(n_bytes: int, *names: object) -> bytes:
    """Bytes that belong to these names."""
    return random.Random("/".join(map(str, names))).randbytes(n_bytes)


def data_set(elements: Elements, syntax: str = EXPLICIT_LITTLE) -> bytes:
    """Encode a flat data set (PS3.5 Section 7.1) in a transfer syntax."""
    big = syntax == EXPLICIT_BIG
    encoded = b"".join(
        _element(tag, vr, value, syntax, big) for tag, (vr, value) in sorted(elements.items())
    )
    if syntax not in DEFLATED:
        return encoded
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(encoded) + deflater.flush()
    return deflated + b"\0" * (len(deflated) % 2)


def _element(tag: int, vr: str, value: str | int | bytes, syntax: str, big: bool) -> bytes:
    order = ">" if big else "<"
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if tag == _PIXEL_DATA and syntax not in _NATIVE:
        assert isinstance(value, bytes)
        # Basic Offset Table (empty), one fragment, delimiter (PS3.5 Table A.4-1).
        items = struct.pack("<HHLHHL", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(value)) + value
        delimiter = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        return head + b"OB\0\0\xff\xff\xff\xff" + items + delimiter
    body = _value(vr, value, order)
    if syntax == IMPLICIT_LITTLE:
        return head + struct.pack("<L", len(body)) + body
    if vr in _LONG:
        return head + vr.encode() + struct.pack(order + "HL", 0, len(body)) + body
    return head + vr.encode() + struct.pack(order + "H", len(body)) + body


def _value(vr: str, value: str | int | bytes, order: str) -> bytes:
    if isinstance(value, int):
        return struct.pack(order + "H", value)
    if isinstance(value, str):
        return value.encode() + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    return value + b"\0" * (len(value) % 2)


def image(
    *names: object,
    n_bytes: int = 2048,
    study: object = "study",
    series: object = "series",
    sop_class: str = CT_IMAGE,
    syntax: str = EXPLICIT_LITTLE,
    pixels: object = None,
    changes: Elements | None = None,
) -> Instance:
    """Return an image called `names`; `pixels` gives it other pixels under the same UID.

    `study` and `series` are names too. A change with an empty VR leaves the element out.
    """
    sop_instance_uid = uid("instance", *names)
    elements: dict[int, tuple[str, str | int | bytes]] = {
        0x00080016: ("UI", sop_class),
        0x00080018: ("UI", sop_instance_uid),
        0x00080060: ("CS", "OT"),
        0x00100010: ("PN", "PHANTOM^HEAD"),
        0x00100020: ("LO", "PHANTOM-1"),
        0x0020000D: ("UI", uid("study", study)),
        0x0020000E: ("UI", uid("series", series)),
        0x00280010: ("US", 16),
        0x00280011: ("US", 16),
        0x00280100: ("US", 16),
        _PIXEL_DATA: ("OW", noise(n_bytes, *names, pixels)),
        **(changes or {}),
    }
    kept = {tag: element for tag, element in elements.items() if element[0]}
    return Instance(sop_class, sop_instance_uid, syntax, data_set(kept, syntax))


def sha256(instance: Instance) -> str:
    """Digest of the data set, as the row of the instance has it."""
    return hashlib.sha256(instance.data).hexdigest()
