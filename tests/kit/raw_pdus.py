"""PDUs, PDVs and command sets as bytes, right ones and wrong ones.

PDUs as in PS3.8 Section 9.3, PDVs as in PS3.8 Annex E, command sets as in PS3.7 Section 6.3
(Implicit VR Little Endian). Plain functions that check nothing of what they are given.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

VERIFICATION = "1.2.840.10008.1.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_IMPLEMENTATION = "2.25.300000000000000000000000000000000001"

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
# Message control header (PS3.8 Section E.2).
COMMAND, LAST = 1, 2

AFFECTED_CLASS, FIELD, MESSAGE_ID, RESPONDED_ID = 0x0002, 0x0100, 0x0110, 0x0120
PRIORITY, DATA_SET_TYPE, STATUS, COMMENT, AFFECTED_INSTANCE = 0x0700, 0x0800, 0x0900, 0x0902, 0x1000
_UIDS, _TEXTS = {AFFECTED_CLASS, 0x0003, AFFECTED_INSTANCE}, {COMMENT}
C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
NO_DATA_SET, HAS_DATA_SET = 0x0101, 0x0000


@dataclass(frozen=True, slots=True)
class Instance:
    """An encoded SOP instance."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data: bytes

    @property
    def context(self) -> tuple[str, str]:
        return self.sop_class_uid, self.transfer_syntax_uid


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A PDU; `length` replaces the true one."""
    return struct.pack(">BxL", kind, len(body) if length is None else length) + body


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def associate_request(
    contexts: Sequence[tuple[str, Sequence[str]]],
    called: str = "PREREAD",
    calling: str = "RAW",
    max_pdu: int = 16384,
) -> bytes:
    """A-ASSOCIATE-RQ (PS3.8 Section 9.3.2); context identifiers are 1, 3, 5 and so on."""
    body = struct.pack(">HH16s16s32x", 1, 0, *(ae.ljust(16).encode() for ae in (called, calling)))
    body += item(0x10, _APPLICATION_CONTEXT.encode())
    for number, (abstract, transfers) in enumerate(contexts):
        syntaxes = item(0x30, abstract.encode())
        syntaxes += b"".join(item(0x40, transfer.encode()) for transfer in transfers)
        body += item(0x20, struct.pack(">Bxxx", 2 * number + 1) + syntaxes)
    user = item(0x51, struct.pack(">L", max_pdu)) + item(0x52, _IMPLEMENTATION.encode())
    return pdu(ASSOCIATE_RQ, body + item(0x50, user))


def release_request() -> bytes:
    return pdu(RELEASE_RQ, bytes(4))


def abort(source: int = 0, reason: int = 0) -> bytes:
    return pdu(ABORT, struct.pack(">xxBB", source, reason))


def command_set(elements: Mapping[int, int | str]) -> bytes:
    """A command set; numbers become US, text is padded to even length (PS3.7 Section E.1)."""
    body = b""
    for element, value in sorted(elements.items()):
        if isinstance(value, int):
            encoded = struct.pack("<H", value)
        else:
            encoded = value.encode() + (b"\0" if element in _UIDS else b" ") * (len(value) % 2)
        body += struct.pack("<HHL", 0, element, len(encoded)) + encoded
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def read_command_set(encoded: bytes) -> dict[int, int | str]:
    found: dict[int, int | str] = {}
    at = 0
    while at + 8 <= len(encoded):
        _, element, length = struct.unpack_from("<HHL", encoded, at)
        value = encoded[at + 8 : at + 8 + length]
        text = element in _UIDS | _TEXTS
        found[element] = (
            value.decode("ascii").rstrip("\0 ") if text else int.from_bytes(value, "little")
        )
        at += 8 + length
    return found


def store_command(instance: Instance, message_id: int = 1, **changes: int | str) -> bytes:
    """The command set of a C-STORE-RQ (PS3.7 Section 9.3.1.1); `changes` as ``e0800=0x0101``."""
    elements: dict[int, int | str] = {
        AFFECTED_CLASS: instance.sop_class_uid,
        FIELD: C_STORE_RQ,
        MESSAGE_ID: message_id,
        PRIORITY: 0,
        DATA_SET_TYPE: HAS_DATA_SET,
        AFFECTED_INSTANCE: instance.sop_instance_uid,
    }
    return command_set(elements | {int(name[1:], 16): value for name, value in changes.items()})


def echo_command(message_id: int = 1) -> bytes:
    return command_set(
        {
            AFFECTED_CLASS: VERIFICATION,
            FIELD: C_ECHO_RQ,
            MESSAGE_ID: message_id,
            DATA_SET_TYPE: NO_DATA_SET,
        }
    )


def pdv(
    context_id: int, control: int, data: bytes | memoryview, length: int | None = None
) -> bytes:
    """A PDV item; `length` replaces the true one."""
    true = len(data) + 2
    return struct.pack(">LBB", true if length is None else length, context_id, control) + data


def pdvs(context_id: int, control: int, data: bytes, size: int) -> Iterator[bytes]:
    """Cut a command set (control 1) or a data set (control 0) into PDVs of at most `size` bytes."""
    view = memoryview(data)
    for start in range(0, max(len(data), 1), size):
        last = LAST if start + size >= len(data) else 0
        yield pdv(context_id, control | last, view[start : start + size])


def store_pdus(
    instance: Instance, context_id: int, message_id: int = 1, size: int = 16372, together: int = 1
) -> Iterator[bytes]:
    """P-DATA-TF PDUs of one C-STORE-RQ.

    `size` is the most bytes of a PDV, `together` the most PDVs of a PDU; command set and data set
    share a PDU when `together` allows it (PS3.8 Section 9.3.5.1 lets them).
    """
    parts = [
        *pdvs(context_id, COMMAND, store_command(instance, message_id), size),
        *pdvs(context_id, 0, instance.data, size),
    ]
    for start in range(0, len(parts), together):
        yield pdu(P_DATA, b"".join(parts[start : start + together]))
