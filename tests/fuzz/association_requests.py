"""A-ASSOCIATE-RQ PDUs with every item there is, right and wrong (PS3.8 Annex D, PS3.7 D.3)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from conversation import CONTEXTS, Pdu, contexts_item
from damage import damage_bytes, edge, reorder
from inputs import Rng
from raw_pdus import ASSOCIATE_RQ, CT_IMAGE, IMPLICIT_LITTLE, VERIFICATION, item, pdu

_APPLICATION = b"1.2.840.10008.3.1.1.1"
_LENGTHS = (0, 1, 5, 6, 7, 8, 20, 128, 16384, 131072, 0xFFFFFFFF)
_AE_TITLES = (b"RAW", b"", b"A\0B", b"\xff\xfe", b"  X  ", b"A\\B", b"\x1b[31m", b"A" * 16)


def _counted(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def presentation_context(number: int, transfers: Sequence[bytes], abstract: bytes = b"") -> bytes:
    """A presentation context item; without an abstract syntax that of CT images."""
    syntaxes = item(0x30, abstract or CT_IMAGE.encode())
    syntaxes += b"".join(item(0x40, transfer) for transfer in transfers)
    return item(0x20, struct.pack(">Bxxx", (2 * number + 1) % 256) + syntaxes)


def every_item(contexts: Sequence[bytes], users: bytes = b"") -> bytes:
    """A valid request of these presentation context items and further user information."""
    head = struct.pack(">HH16s16s32x", 1, 0, b"PREREAD".ljust(16), b"RAW".ljust(16))
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"2.25.1") + users
    return pdu(
        ASSOCIATE_RQ, head + item(0x10, _APPLICATION) + b"".join(contexts) + item(0x50, user)
    )


def user_items(rng: Rng, *, wrong: bool) -> list[bytes]:
    """User information: a maximum length, a UID, and some of what else there is."""
    optional = _strange_items(rng) if wrong else _right_items(rng)
    chosen = [one for one in optional if rng.chance(0.3)]
    rng.shuffle(chosen)
    length = rng.choice(_LENGTHS) if rng.chance(0.3) else 16384
    return [item(0x51, struct.pack(">L", length)), item(0x52, b"2.25.1"), *chosen]


def _right_items(rng: Rng) -> list[bytes]:
    class_uid = _counted(rng.choice((CT_IMAGE, VERIFICATION)).encode())
    identity = struct.pack(">BB", rng.choice((1, 2)), rng.randrange(2)) + _counted(b"user")
    roles = bytes(rng.choice(((0, 1), (1, 0), (1, 1))))
    related = _counted(_counted(CT_IMAGE.encode()) * rng.randrange(3))
    return [
        item(0x53, struct.pack(">HH", rng.choice((0, 1, 9)), rng.choice((0, 1, 9)))),
        item(0x54, class_uid + roles),
        item(0x55, b"RAW_1"),
        item(0x56, class_uid + rng.randbytes(1 + rng.small(8))),
        item(0x57, class_uid + _counted(b"1.2.840.10008.4.2") + related),
        item(0x58, identity + _counted(b"secret")),
    ]


def _strange_items(rng: Rng) -> list[bytes]:
    class_uid = _counted(rng.choice((CT_IMAGE, VERIFICATION, "1.2.3", "")).encode())
    identity = struct.pack(">BB", rng.randrange(7), rng.randrange(3)) + _counted(b"user")
    return [
        *_right_items(rng),
        item(0x54, class_uid + rng.randbytes(2)),
        item(0x54, class_uid + bytes(2)),
        item(0x58, identity + _counted(rng.choice((b"", b"secret")))),
        item(0x59, _counted(b"answer of a server")),
        item(rng.choice((0x00, 0x5A, 0x77, 0xFF)), rng.randbytes(rng.small(9))),
    ]


def _contexts(rng: Rng) -> list[bytes]:
    roll = rng.random()
    if roll < 0.75:
        return contexts_item()
    if roll < 0.8:
        return []
    if roll < 0.9:  # more than there may be
        n_contexts = rng.choice((1, 64, 127, 128, 129, 140))
        return contexts_item([CONTEXTS[i % len(CONTEXTS)] for i in range(n_contexts)])
    names = ("", "1", "é", "1.2.840.10008.1.1\0", "1." * 60, "1..2", "1.2.840.10008.1.1", "\0", " ")
    found = []
    for number in range(1 + rng.small(6)):
        syntaxes = [item(0x40, rng.choice(names).encode()) for _ in range(rng.small(3))]
        syntaxes.append(item(0x40, IMPLICIT_LITTLE.encode()) * rng.choice((0, 1, 1, 1, 40)))
        parts = [item(0x30, rng.choice(names).encode())] * rng.choice((0, 1, 1, 1, 2)) + syntaxes
        identifier = rng.choice((2 * number + 1, number, 255, 0))
        found.append(item(0x20, struct.pack(">Bxxx", identifier) + b"".join(parts)))
    return found


def _with_wrong_length(rng: Rng, one: bytes) -> bytes:
    return one[:2] + struct.pack(">H", edge(rng, len(one) - 4) & 0xFFFF) + one[4:]


def request(rng: Rng, damage: float = 0.5) -> Pdu:
    """A request, damaged with that probability."""
    wrong = rng.chance(damage)
    users = user_items(rng, wrong=wrong)
    if wrong and rng.chance(0.3):
        reorder(rng, users)
    if wrong and rng.chance(0.3) and users:
        at = rng.randrange(len(users))
        users[at] = _with_wrong_length(rng, users[at])
    contexts = _contexts(rng) if wrong else contexts_item()
    items = [item(0x10, _APPLICATION), *contexts, item(0x50, b"".join(users))]
    if wrong and rng.chance(0.3):
        reorder(rng, items)
    if wrong and rng.chance(0.2) and items:
        at = rng.randrange(len(items))
        items[at] = _with_wrong_length(rng, items[at])
    called = rng.choice(_AE_TITLES) if wrong and rng.chance(0.2) else b"PREREAD"
    calling = rng.choice(_AE_TITLES) if wrong and rng.chance(0.2) else b"RAW"
    version = rng.choice((0, 1, 2, 0xFFFF)) if wrong and rng.chance(0.2) else 1
    head = struct.pack(">HH16s16s32x", version, 0, called.ljust(16), calling.ljust(16))
    body = head + b"".join(items)
    if wrong and rng.chance(0.3):
        body = damage_bytes(rng, body)
    length = edge(rng, len(body)) if wrong and rng.chance(0.1) else None
    return Pdu(ASSOCIATE_RQ, body=body, length=length)
