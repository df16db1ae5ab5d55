"""Requests that came before: answered from memory, as they were answered then."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from encoded import image
from raw_pdus import (
    ASSOCIATE_AC,
    CT_IMAGE,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    VERIFICATION,
    associate_request,
    item,
    release_request,
)
from raw_scu import RawAssociation, rejection

from scp.transport.negotiation import Negotiated, Negotiations

CONTEXTS = ((CT_IMAGE, EXPLICIT_LITTLE), (VERIFICATION, IMPLICIT_LITTLE))


@pytest.fixture
def transport() -> str:
    """The only transport that remembers."""
    return "streaming"


def answer(node: Any, request: bytes) -> tuple[int, bytes]:
    """Return the answer to a request, of an association that ends at once."""
    with RawAssociation(node.server.port, ()) as opened:
        opened.send(request)
        kind, body = opened.read()
        if kind == ASSOCIATE_AC:
            opened.send(release_request())
            opened.read()
        return kind, body


def known(node: Any) -> dict[bytes, Negotiated]:
    found: dict[bytes, Negotiated] = node.server._listener.negotiations._known
    return found


def with_user_item(request: bytes, added: bytes) -> bytes:
    """Append an item to the user information, which comes last."""
    at = request.rindex(b"\x50\0", 0, request.index(b"\x51\0\0\4"))
    (length,) = struct.unpack_from(">H", request, at + 2)
    (whole,) = struct.unpack_from(">L", request, 2)
    users = struct.pack(">BxH", 0x50, length + len(added)) + request[at + 4 :] + added
    return request[:2] + struct.pack(">L", whole + len(added)) + request[6:at] + users


@pytest.mark.parametrize(
    "request_",
    [
        associate_request([(CT_IMAGE, [EXPLICIT_LITTLE])]),
        associate_request([(CT_IMAGE, [IMPLICIT_LITTLE, EXPLICIT_LITTLE]), ("1.2.3.4", ["1.2.5"])]),
        associate_request([("1.2.840.10008.5.1.4.1.2.2.1", [IMPLICIT_LITTLE])]),  # refused
        associate_request([(CT_IMAGE, [EXPLICIT_LITTLE])] * 128, calling="X  Y", max_pdu=0),
        with_user_item(
            associate_request([(CT_IMAGE, [EXPLICIT_LITTLE])]),
            item(0x53, struct.pack(">HH", 5, 5))
            + item(0x54, struct.pack(">H", len(CT_IMAGE)) + CT_IMAGE.encode() + b"\1\1"),
        ),
    ],
    ids=["one", "several", "none accepted", "128", "roles and operations"],
)
def test_the_answer_is_the_same(node: Any, request_: bytes) -> None:
    first = answer(node, request_)
    assert first[0] == ASSOCIATE_AC
    assert list(known(node)) == [request_]
    assert [answer(node, request_) for _ in range(3)] == [first] * 3


def test_who_calls_is_part_of_the_request(node: Any) -> None:
    for calling in ("ONE", "OTHER", "ONE", "OTHER"):
        with RawAssociation(node.server.port, CONTEXTS, calling=calling) as opened:
            assert opened.echo() == 0
    rows = node.rows("SELECT calling_ae, context_digest FROM association ORDER BY opened_at")
    assert [row["calling_ae"] for row in rows] == ["ONE", "OTHER", "ONE", "OTHER"]
    assert len({row["context_digest"] for row in rows}) == 1
    assert len(known(node)) == 2


def test_images_come_in_associations_known_before(node: Any) -> None:
    one = [image("known", number, n_bytes=3000) for number in range(4)]
    for each in one:
        with RawAssociation(node.server.port, CONTEXTS) as opened:
            assert opened.store(each) == 0
    rows = node.ended(4)
    assert [row["n_received"] for row in rows] == [1] * 4
    assert len(node.rows("SELECT 1 FROM instance")) == 4


def test_whether_it_is_let_in_is_decided_each_time(start_node: Any) -> None:
    node = start_node(max_associations=1)
    with RawAssociation(node.server.port, CONTEXTS, calling="SENDER") as opened:
        assert opened.echo() == 0  # by then what it was answered is remembered
        assert len(known(node)) == 1
        with pytest.raises(Exception, match="A-ASSOCIATE-RJ"):
            RawAssociation(node.server.port, CONTEXTS, calling="SENDER")
        assert opened.echo() == 0
    with RawAssociation(node.server.port, CONTEXTS, calling="SENDER") as opened:
        assert opened.echo() == 0
    ends = [row["ended_by"] for row in node.ended(3)]
    assert ends == ["released", "rejected", "released"]


def test_what_is_rejected_is_not_remembered(start_node: Any) -> None:
    node = start_node(calling_ae_allow=("CT",))
    assert rejection(node.server.port, calling="MR") == rejection(node.server.port, calling="MR")
    assert not known(node)


def test_credentials_are_not_remembered(node: Any) -> None:
    identity = item(0x58, struct.pack(">BBH4sH6s", 2, 1, 4, b"user", 6, b"secret"))
    request = with_user_item(associate_request([(CT_IMAGE, [EXPLICIT_LITTLE])]), identity)
    assert answer(node, request)[0] == ASSOCIATE_AC
    assert answer(node, request)[0] == ASSOCIATE_AC
    assert not known(node)


def test_a_second_request_in_an_association_is_not_expected(node: Any) -> None:
    """PS3.8 Table 9-10: A-ASSOCIATE-RQ in state 6, known or not, is answered with A-ABORT."""
    request = associate_request([(CT_IMAGE, [EXPLICIT_LITTLE])])
    answer(node, request)
    with RawAssociation(node.server.port, ()) as opened:
        opened.send(request)
        assert opened.read()[0] == ASSOCIATE_AC
        opened.send(request)
        with pytest.raises(Exception, match=r"A-ABORT, source 2"):
            opened.read()


def test_what_is_remembered_is_bounded() -> None:
    negotiations = Negotiations()
    one: Any = object()
    used = b"used again and again".ljust(1000)
    negotiations.remember(used, one)
    for number in range(5_000):
        negotiations.remember(str(number).encode().ljust(1000), one)
        negotiations.find(used)
    negotiations.remember(bytes(32 * 1024 + 1), one)
    assert sum(map(len, negotiations._known)) <= 256 * 1024
    assert negotiations._n_bytes == sum(map(len, negotiations._known))
    assert used in negotiations._known
    assert bytes(32 * 1024 + 1) not in negotiations._known
