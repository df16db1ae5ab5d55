"""Inputs that once failed, each with the reason."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from answers import Answers
from association_requests import every_item, presentation_context
from conversation import Element, Message, Value, contexts_item, padded, pdus_of, us, values_of
from conversation import encode as encoded_pdus
from encoded import image
from fuzzed_node import FuzzedNode, fuzzed_node
from model import understand
from raw_pdus import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    CT_IMAGE,
    EXPLICIT_LITTLE,
    VERIFICATION,
    item,
    store_pdus,
)

_CT = CT_IMAGE.encode()
_EXPLICIT = EXPLICIT_LITTLE.encode()


@pytest.fixture(scope="module")
def node() -> Iterator[FuzzedNode]:
    with fuzzed_node() as made:
        yield made


@pytest.mark.parametrize(
    "context",
    [
        # AttributeError in pynetdicom's negotiation: the thread died, the peer heard nothing.
        item(0x20, struct.pack(">Bxxx", 1) + item(0x40, _EXPLICIT)),
        item(0x20, struct.pack(">Bxxx", 1)),
        # IndexError there: no transfer syntax, or an empty one, which counts as none.
        item(0x20, struct.pack(">Bxxx", 1) + item(0x30, _CT)),
        item(0x20, struct.pack(">Bxxx", 1) + item(0x30, _CT) + item(0x40, b"")),
        item(0x20, struct.pack(">Bxxx", 1) + item(0x30, b"") + item(0x40, b"")),
    ],
)
def test_contexts_without_syntaxes_are_answered(
    node: FuzzedNode, crashes: list[str], context: bytes
) -> None:
    answers = node.converse(every_item([context, presentation_context(1, [_EXPLICIT])]))

    assert answers.kinds[0] in (ABORT, ASSOCIATE_AC, ASSOCIATE_RJ)


@pytest.mark.parametrize("field", [0x0010, 0x0020, 0x0021, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150])
@pytest.mark.parametrize("sop_class", [CT_IMAGE, VERIFICATION])
def test_requests_not_served_get_no_answer_to_another(
    node: FuzzedNode, field: int, sop_class: str
) -> None:
    """pynetdicom goes by the SOP class of a request, not by what it requests nor by its context:
    N-GET of Verification was answered with C-ECHO-RSP and success, of CT with C-STORE-RSP 0xC211.
    """
    answers = _ask(node, field, sop_class)

    for one in answers.responses:
        assert one.field == field | 0x8000
        assert one.status != 0


def _ask(node: FuzzedNode, field: int, sop_class: str) -> Answers:
    command = [
        Element(0x0003 if field in (0x0110, 0x0120, 0x0130, 0x0150) else 0x0002, padded(sop_class)),
        Element(0x0100, us(field)),
        Element(0x0110, us(7)),
        Element(0x0800, us(0x0101)),
        Element(0x1001 if field in (0x0110, 0x0120, 0x0130, 0x0150) else 0x1000, padded("1.2.3")),
        *([Element(0x1008, us(1))] if field == 0x0130 else []),
        *([Element(0x0600, b"DEST")] if field == 0x0021 else []),
    ]
    values = values_of(Message(1, command), 1000)
    return node.converse(every_item(contexts_item()) + encoded_pdus(pdus_of(values, 1)))


@pytest.mark.parametrize("syntax", [b"1.2.\x003", b"1.2.840.10008.1.2\x00\x00\x001"])
def test_a_transfer_syntax_that_is_no_uid_is_not_promised(node: FuzzedNode, syntax: bytes) -> None:
    """It was accepted; PostgreSQL takes no NUL, and each image was refused as if for a while."""
    request = every_item([presentation_context(0, [syntax])])
    answers = node.converse(request + b"".join(store_pdus(image("no uid"), 1)))

    assert 1 not in answers.accepted


def test_empty_data_sets_leave_no_files(node: FuzzedNode) -> None:
    """A hundred bytes made a file in quarantine, which costs an inode and two syncs."""
    command = Element(0x0002, padded(CT_IMAGE)), Element(0x0100, us(1)), Element(0x0110, us(1))
    values: list[Value] = []
    for _ in range(5):
        message = Message(1, [*command, Element(0x0800, us(0x0101)), Element(0x1000, b"1.2\0")])
        values += values_of(message, 1000)
    answers = node.converse(every_item(contexts_item()) + encoded_pdus(pdus_of(values, 1)))

    assert len(answers.responses) == 5
    assert not list((node.files.root / "quarantine").iterdir())


def test_the_model_takes_a_value_cut_short_for_unfinished() -> None:
    """It took the end of the input inside a value for the end of its PDU (a fault of the model)."""
    data = struct.pack(">BxLLBB", 4, 100, 94, 1, 1) + bytes(20)

    assert not understand(data, established=True).is_wrong
