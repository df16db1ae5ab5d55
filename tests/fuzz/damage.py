"""Ways to damage a conversation: its messages, values, PDUs and at last its bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

from conversation import Element, Message, Pdu, Value, encode, pdus_of, us, values_of, whole
from inputs import Rng
from raw_pdus import P_DATA, abort, associate_request, release_request

EDGES = (
    0, 1, 2, 3, 4, 5, 6, 7, 0x7F, 0x80, 0xFF, 0x100, 0x1FE, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF,
    0x10000, 0xFFFFF, 0x100000, 0x100001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFA, 0xFFFFFFFE,
    0xFFFFFFFF,
)  # fmt: skip
_TAGS = (0x0000, 0x0001, 0x0002, 0x0003, 0x0100, 0x0110, 0x0120, 0x0800, 0x0900, 0x1000, 0x1001)
_T = TypeVar("_T")


def edge(rng: Rng, true: int) -> int:
    """A length that is wrong: an extreme one or one beside the true one."""
    if rng.chance(0.5):
        return rng.choice(EDGES)
    return max(0, true + rng.choice((-8, -4, -2, -1, 1, 2, 4, 6, 8)))


def reorder(rng: Rng, items: list[_T]) -> None:
    """Drop, double, swap or move one."""
    if not items:
        return
    at, other = rng.randrange(len(items)), rng.randrange(len(items))
    roll = rng.randrange(4)
    if roll == 0:
        del items[at]
    elif roll == 1:
        items.insert(other, items[at])
    elif roll == 2:
        items[at], items[other] = items[other], items[at]
    else:
        items.insert(other, items.pop(at))


def damage_command(rng: Rng, message: Message) -> None:
    elements = message.command
    roll = rng.randrange(8)
    if roll == 0 or not elements:
        reorder(rng, elements)
        return
    one = rng.choice(elements)
    if roll == 1:
        one.length = edge(rng, len(one.value)) & 0xFFFFFFFF
    elif roll == 2:
        one.number = rng.choice(_TAGS)
    elif roll == 3:
        one.group = rng.choice((0, 2, 8, 0xFFFE, 0xFFFF))
    elif roll == 4:
        one.value = us(rng.choice((0, 1, 0x30, 0x101, 0x102, 0x8001, 0xFFFF)))
    elif roll == 5:
        one.value = rng.randbytes(rng.choice((0, 1, 3, 64, 65, 300)))
    elif roll == 6:
        texts = (b"\0" * 8, b"1..2", b"../../etc", b"1.2\\3.4", b"1." * 40, "é".encode())
        one.value = rng.choice(texts)
    else:
        elements.append(Element(rng.choice(_TAGS), rng.randbytes(rng.small(9))))


def damage_message(rng: Rng, message: Message) -> None:
    roll = rng.randrange(5)
    if roll == 0:
        message.context_id = rng.choice((0, 1, 2, 3, 15, 17, 19, 99, 255))
    elif roll == 1:
        message.data = None if message.data else b"\x08\0\x16\0"
    elif roll == 2 and message.data:
        message.data = damage_bytes(rng, message.data)
    else:
        damage_command(rng, message)


def damage_values(rng: Rng, values: list[Value]) -> None:
    roll = rng.randrange(8)
    if roll == 0 or not values:
        reorder(rng, values)
        return
    at = rng.randrange(len(values))
    one = values[at]
    if roll == 1:
        one.control ^= rng.choice((1, 2, 3, 4, 0x80, 0xFC))
    elif roll == 2:
        one.context_id = rng.choice((0, 1, 2, 3, 15, 255, one.context_id ^ 2))
    elif roll == 3:
        one.length = edge(rng, len(one.data) + 2)
    elif roll == 4:
        for _ in range(rng.choice((1, 1, 30))):
            values.insert(at, Value(one.context_id, one.control & ~2 & 0xFF, b""))
    elif roll == 5:
        cut = rng.randint(0, len(one.data))
        rest = Value(one.context_id, one.control, one.data[cut:])
        values[at : at + 1] = [Value(one.context_id, one.control & 1, one.data[:cut]), rest]
    elif roll == 6:
        one.data = damage_bytes(rng, one.data)
    else:
        values.insert(at, Value(one.context_id, rng.randrange(4), rng.randbytes(rng.small(40))))


def damage_pdus(rng: Rng, pdus: list[Pdu]) -> None:
    roll = rng.randrange(6)
    if roll == 0 or not pdus:
        reorder(rng, pdus)
        return
    at = rng.randrange(len(pdus))
    one = pdus[at]
    if roll == 1:
        one.length = edge(rng, len(one.encode()) - 6)
    elif roll == 2:
        one.kind = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 0x16, 0xFF))
    elif roll == 3:
        pdus.insert(at, whole(rng.choice(_STRANGE)))
    elif roll == 4 and at + 1 < len(pdus) and pdus[at + 1].kind == one.kind == P_DATA:
        one.values = one.values + pdus.pop(at + 1).values
    else:
        pdus.insert(at, Pdu(rng.choice((P_DATA, P_DATA, rng.randrange(10)))))


_STRANGE: tuple[bytes, ...] = (
    release_request(),
    abort(),
    abort(2, 6),
    struct.pack(">BxLL", 6, 4, 0),
    struct.pack(">BxL4x", 3, 4),
    associate_request([("1.2.840.10008.1.1", ["1.2.840.10008.1.2"])]),
    b"\2" + associate_request([("1.2.840.10008.1.1", ["1.2.840.10008.1.2"])])[1:],
    struct.pack(">BxL", 4, 0),
    struct.pack(">BxL", 5, 0),
    struct.pack(">BxL", 7, 0),
)


def flip(rng: Rng, data: bytearray) -> None:
    for _ in range(1 + rng.small(6)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def truncate(rng: Rng, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def double(rng: Rng, data: bytearray) -> None:
    start = rng.randrange(len(data))
    part = data[start : start + 1 + rng.small(200)]
    data[start:start] = part * rng.choice((1, 1, 2, 10))


def remove(rng: Rng, data: bytearray) -> None:
    start = rng.randrange(len(data))
    del data[start : start + 1 + rng.small(60)]


def insert(rng: Rng, data: bytearray) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.randbytes(1 + rng.small(20))


def put_number(rng: Rng, data: bytearray) -> None:
    """Overwrite with a number that may be taken for a length."""
    form = rng.choice((">H", "<H", ">L", "<L"))
    number = rng.choice(EDGES) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
    start = rng.randrange(len(data))
    data[start : start + struct.calcsize(form)] = struct.pack(form, number)


_BYTE_DAMAGES: Sequence[Callable[[Rng, bytearray], None]] = (
    flip, flip, truncate, double, remove, insert, put_number, put_number,
)  # fmt: skip


def damage_bytes(rng: Rng, content: bytes, most: int = 3) -> bytes:
    data = bytearray(content)
    for _ in range(1 + rng.small(most - 1)):
        if data:
            rng.choice(_BYTE_DAMAGES)(rng, data)
    return bytes(data)


def splice(rng: Rng, one: bytes, other: bytes) -> bytes:
    """The beginning of one conversation and the end of another."""
    return one[: rng.randint(0, len(one))] + other[rng.randint(0, len(other)) :]


def damaged(
    rng: Rng,
    messages: list[Message],
    end: list[Pdu],
    start: list[Pdu],
    shares: Sequence[float] = (0.4, 0.4, 0.3, 0.25),
) -> bytes:
    """Make a conversation of messages and damage it at none, one or several of its levels.

    `shares` are the probabilities of damage to messages, values, PDUs and bytes.
    """
    levels = [rng.chance(share) for share in shares]
    values: list[Value] = []
    for message in messages:
        if levels[0] and rng.chance(0.7):
            damage_message(rng, message)
        values += values_of(message, rng.choice((16372, 16372, 1000, 200, 17)))
    if levels[1]:
        for _ in range(1 + rng.small(2)):
            damage_values(rng, values)
    pdus = [*start, *pdus_of(values, rng.choice((1, 1, 2, 5, 1000))), *end]
    if levels[2]:
        damage_pdus(rng, pdus)
    content = encode(pdus)
    return damage_bytes(rng, content) if levels[3] and content else content
