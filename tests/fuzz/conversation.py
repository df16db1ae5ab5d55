"""What a storage SCU sends, as a structure that can be damaged before it becomes bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from encoded import EXPLICIT_BIG, image, uid
from inputs import Rng
from raw_pdus import (
    COMMAND,
    CT_IMAGE,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    LAST,
    P_DATA,
    VERIFICATION,
    Instance,
    abort,
    item,
    pdu,
    pdv,
    release_request,
)

DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.50"
PRIVATE_CLASS = "1.3.6.1.4.1.99999.1"
PRIVATE_SYNTAX = "1.3.6.1.4.1.99999.2"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
# Proposed in this order, so that context identifiers are 1, 3, 5 and so on.
CONTEXTS: tuple[tuple[str, str], ...] = (
    (CT_IMAGE, EXPLICIT_LITTLE),
    (VERIFICATION, IMPLICIT_LITTLE),
    (CT_IMAGE, IMPLICIT_LITTLE),
    (CT_IMAGE, EXPLICIT_BIG),
    (CT_IMAGE, DEFLATED),
    (CT_IMAGE, JPEG),
    (PRIVATE_CLASS, PRIVATE_SYNTAX),
    (STUDY_ROOT_FIND, IMPLICIT_LITTLE),  # never accepted
    (STORAGE_COMMITMENT, IMPLICIT_LITTLE),  # never accepted
)
STORED_IN = (1, 5, 7, 9, 11, 13)
# Command Field of what else a peer may send (PS3.7 Annex E).
OTHER_FIELDS = (
    0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150, 0x0FFF,
    0x8001, 0x8020, 0x8030, 0x8100, 0x8130, 0x0000, 0xFFFF,
)  # fmt: skip


@dataclass(slots=True)
class Element:
    """An element of a command set; `length` replaces the true one."""

    number: int
    value: bytes
    group: int = 0
    length: int | None = None

    def encode(self) -> bytes:
        length = len(self.value) if self.length is None else self.length
        return struct.pack("<HHL", self.group, self.number, length) + self.value


@dataclass(slots=True)
class Value:
    """A presentation data value."""

    context_id: int
    control: int
    data: bytes
    length: int | None = None

    def encode(self) -> bytes:
        return pdv(self.context_id, self.control, self.data, self.length)


@dataclass(slots=True)
class Message:
    """A DIMSE message."""

    context_id: int
    command: list[Element]
    data: bytes | None = None


@dataclass(slots=True)
class Pdu:
    """A PDU, of presentation data values or of bytes."""

    kind: int
    values: list[Value] = field(default_factory=list)
    body: bytes = b""
    length: int | None = None

    def encode(self) -> bytes:
        body = b"".join(one.encode() for one in self.values) or self.body
        return pdu(self.kind, body, self.length)


def whole(encoded: bytes) -> Pdu:
    return Pdu(encoded[0], body=encoded[6:])


def encode(pdus: Iterable[Pdu]) -> bytes:
    return b"".join(one.encode() for one in pdus)


def padded(text: str, with_: bytes = b"\0") -> bytes:
    encoded = text.encode()
    return encoded + with_ * (len(encoded) % 2)


def us(number: int) -> bytes:
    return struct.pack("<H", number)


def store_message(instance: Instance, context_id: int, message_id: int) -> Message:
    command = [
        Element(0x0002, padded(instance.sop_class_uid)),
        Element(0x0100, us(0x0001)),
        Element(0x0110, us(message_id)),
        Element(0x0700, us(0)),
        Element(0x0800, us(0x0000)),
        Element(0x1000, padded(instance.sop_instance_uid)),
    ]
    return Message(context_id, command, instance.data)


def other_message(rng: Rng, context_id: int, message_id: int) -> Message:
    """Anything but a C-STORE, right or not."""
    kind = rng.choice(OTHER_FIELDS)
    has_data = rng.chance(0.5)
    is_response = kind & 0x8000 or kind == 0x0FFF
    command = [
        Element(rng.choice((0x0002, 0x0003)), padded(CONTEXTS[context_id // 2 % 9][0])),
        Element(0x0100, us(kind)),
        Element(0x0120 if is_response else 0x0110, us(message_id)),
        Element(0x0800, us(0x0102 if has_data else 0x0101)),
        Element(rng.choice((0x1000, 0x1001)), padded(uid("other", message_id))),
    ]
    if kind in (0x0100, 0x0130):
        command.append(Element(0x1002 if kind == 0x0100 else 0x1008, us(1)))
    identifier = struct.pack("<HHL", 8, 0x52, 6) + b"STUDY "
    return Message(context_id, command, identifier if has_data else None)


def echo_message(message_id: int) -> Message:
    command = [
        Element(0x0002, padded(VERIFICATION)),
        Element(0x0100, us(0x0030)),
        Element(0x0110, us(message_id)),
        Element(0x0800, us(0x0101)),
    ]
    return Message(3, command)


def command_bytes(elements: Sequence[Element]) -> bytes:
    body = b"".join(one.encode() for one in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def values_of(message: Message, size: int) -> list[Value]:
    """Cut a message into values of at most `size` bytes."""
    found: list[Value] = []
    parts = [(COMMAND, command_bytes(message.command))]
    if message.data is not None:
        parts.append((0, message.data))
    for control, content in parts:
        for at in range(0, max(len(content), 1), size):
            last = LAST if at + size >= len(content) else 0
            found.append(Value(message.context_id, control | last, content[at : at + size]))
    return found


def pdus_of(values: Sequence[Value], together: int) -> list[Pdu]:
    starts = range(0, len(values), together)
    return [Pdu(P_DATA, values=list(values[at : at + together])) for at in starts]


def random_message(rng: Rng, name: str, message_id: int) -> Message:
    """A valid message, most likely a C-STORE."""
    roll = rng.random()
    if roll < 0.7:
        return store_message(*_instance(rng, name), message_id)
    if roll < 0.85:
        return echo_message(message_id)
    return other_message(rng, rng.choice((1, 3, 13, 15)), message_id)


def _instance(rng: Rng, name: str) -> tuple[Instance, int]:
    context_id = rng.choice(STORED_IN)
    abstract, syntax = CONTEXTS[context_id // 2]
    n_bytes = rng.choice((0, 2, 100, 700, 700, 3000))
    return image(name, n_bytes=n_bytes, sop_class=abstract, syntax=syntax), context_id


def messages_of(rng: Rng, most: int = 3) -> list[Message]:
    name = f"{rng.getrandbits(64):x}"
    return [random_message(rng, f"{name}-{i}", i + 1) for i in range(1 + rng.small(most - 1))]


def ending(rng: Rng) -> list[Pdu]:
    kinds: tuple[tuple[bytes, ...], ...] = ((release_request(),), (abort(),), ())
    return [whole(one) for one in rng.choice(kinds)]


def contexts_item(contexts: Sequence[tuple[str, str]] = CONTEXTS) -> list[bytes]:
    return [
        item(
            0x20,
            struct.pack(">Bxxx", (2 * number + 1) % 256)
            + item(0x30, abstract.encode())
            + item(0x40, transfer.encode()),
        )
        for number, (abstract, transfer) in enumerate(contexts)
    ]
