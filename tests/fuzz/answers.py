"""What a node answered, and whether it may have."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from model import Stored, Understood, understand
from raw_pdus import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RP

_C_STORE_RSP, _C_ECHO_RSP = 0x8001, 0x8030
# pynetdicom gives this in a C-STORE-RSP to other requests that name a storage class.
_NO_STORE = 0xC211
_MAY_BE_ANSWERED = (ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RP, ABORT)


@dataclass(frozen=True, slots=True)
class Response:
    """The command set of a response."""

    context_id: int
    field: int
    message_id: int
    status: int
    sop_instance_uid: str


@dataclass(slots=True)
class Answers:
    """Everything that came back over a connection."""

    kinds: list[int] = field(default_factory=list)
    accepted: frozenset[int] = frozenset()
    responses: list[Response] = field(default_factory=list)


def exchange(connection: socket.socket, data: bytes, seconds: float = 120.0) -> bytes:
    """Send everything, say that nothing more comes, and return what came until the peer closed."""
    deadline = time.monotonic() + seconds
    connection.setblocking(False)
    view, got = memoryview(data), bytearray()
    if not data:
        connection.shutdown(socket.SHUT_WR)
    while time.monotonic() < deadline:
        wanted = [connection] if len(view) else []
        readable, writable, _ = select.select([connection], wanted, [], 1.0)
        try:
            if readable:
                part = connection.recv(1 << 16)
                if not part:
                    return bytes(got)
                got += part
            elif writable:
                view = view[connection.send(view) :]
                if not len(view):
                    connection.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            continue
        except OSError:  # reset: the peer has closed with bytes unread
            with suppress(OSError):
                got += connection.recv(1 << 20)
            return bytes(got)
    raise AssertionError(f"the connection is still open after {seconds} s, {len(got)} bytes came")


def read_answers(got: bytes) -> Answers:
    """Read what came; every PDU must be whole and of a kind that an acceptor sends."""
    answers = Answers()
    command: dict[int, bytearray] = {}
    at = 0
    while at < len(got):
        kind, length = struct.unpack_from(">BxL", got, at)
        body = got[at + 6 : at + 6 + length]
        assert kind in _MAY_BE_ANSWERED, f"PDU type {kind}"
        assert len(body) == length, "half a PDU"
        answers.kinds.append(kind)
        if kind == ASSOCIATE_AC:
            answers.accepted = frozenset(_accepted(body))
        elif kind == P_DATA:
            for context_id, control, data in _values(body):
                encoded = command.setdefault(context_id, bytearray())
                encoded += data
                assert control & 1, "a data set in an answer"
                if control & 2:
                    answers.responses.append(_response(context_id, bytes(encoded)))
                    del command[context_id]
        at += 6 + length
    assert not command, "half a response"
    return answers


def _accepted(body: bytes) -> Iterator[int]:
    at = 68
    while at + 4 <= len(body):
        kind, length = struct.unpack_from(">BxH", body, at)
        if kind == 0x21 and body[at + 6] == 0:
            yield body[at + 4]
        at += 4 + length


def _values(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at < len(body):
        length, context_id, control = struct.unpack_from(">LBB", body, at)
        yield context_id, control, body[at + 6 : at + 4 + length]
        at += 4 + length


def _response(context_id: int, encoded: bytes) -> Response:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(encoded):
        group, number, length = struct.unpack_from("<HHL", encoded, at)
        assert group == 0
        found[number] = encoded[at + 8 : at + 8 + length]
        at += 8 + length
    assert at == len(encoded)
    number = {tag: int.from_bytes(found.get(tag, b""), "little") for tag in (0x100, 0x120, 0x900)}
    uid = found.get(0x1000, b"").decode("ascii").rstrip("\0 ")
    return Response(context_id, number[0x100], number[0x120], number[0x900], uid)


def judge(sent: bytes, answers: Answers) -> tuple[Understood, list[Stored]]:
    """Compare answers with what was sent.

    Returns
    -------
    Understood
        What was sent.
    list of Stored
        What was acknowledged: its bytes must have been kept.
    """
    understood = understand(sent, answers.accepted)
    if ASSOCIATE_AC not in answers.kinds:
        assert not answers.responses, "an answer without an association"
        return understood, []
    of_store = [
        one for one in answers.responses if one.field == _C_STORE_RSP and one.status != _NO_STORE
    ]
    assert len(of_store) <= len(understood.stored), "an answer to a request that was not complete"
    acknowledged = []
    for one, stored in zip(of_store, understood.stored, strict=False):
        assert (one.context_id, one.message_id) == (stored.context_id, stored.message_id)
        if one.status == 0:
            assert one.sop_instance_uid == stored.sop_instance_uid
            assert stored.data, "nothing was acknowledged"
            acknowledged.append(stored)
    for one in answers.responses:
        assert one.field & 0x8000
        if one.field not in (_C_STORE_RSP, _C_ECHO_RSP):
            assert one.status != 0, f"success for what is not served: 0x{one.field:04X}"
    return understood, acknowledged
