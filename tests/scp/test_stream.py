"""PDUs and fragments, however the bytes of a connection happen to be cut."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scp.errors import ProtocolError
from scp.transport.stream import MAX_WHOLE_PDU, Fragment, PduStream, WholePdu

RELEASE_RQ = b"\x05\0\0\0\0\4\0\0\0\0"


@dataclass(frozen=True)
class Value:
    """A presentation data value."""

    context_id: int
    control: int
    data: bytes

    def encoded(self) -> bytes:
        return struct.pack(">LBB", len(self.data) + 2, self.context_id, self.control) + self.data


def p_data(values: list[Value]) -> bytes:
    body = b"".join(value.encoded() for value in values)
    return struct.pack(">BxL", 4, len(body)) + body


values = st.builds(
    Value,
    st.integers(0, 255),
    st.integers(0, 3),
    st.one_of(st.binary(max_size=40), st.sampled_from([3000, 70_000, 300_000]).map(bytes)),
)
pdus = st.one_of(st.lists(values, min_size=1, max_size=4), st.binary(max_size=3000))
cuts = st.lists(st.integers(1, 200_000), min_size=1, max_size=20)


def encoded(pdu: list[Value] | bytes) -> bytes:
    return p_data(pdu) if isinstance(pdu, list) else struct.pack(">BxL", 5, len(pdu)) + pdu


def pieces(data: bytes, cuts: list[int], *, cut_data: bool = True) -> list[Value | bytes]:
    """Feed a stream by pieces of those lengths, in turn; join the fragments of each value."""
    stream, found, at, turn = PduStream(), [], 0, 0
    while at < len(data):
        space = stream.space()
        cut = max(cuts[turn % len(cuts)], len(data) // 500)  # a million bytes one by one take hours
        part = data[at : at + min(len(space), cut)]
        assert part, "no room to receive"
        space[: len(part)] = part
        stream.received(len(part))
        at, turn = at + len(part), turn + 1
        while (piece := stream.next(cut_data=cut_data)) is not None:
            if isinstance(piece, WholePdu):
                found.append(piece.data)
                continue
            found.append(as_value(piece))
    assert not stream.is_inside_pdu
    return joined(found)


def as_value(piece: Fragment) -> Value:
    control = piece.is_command | piece.is_last << 1
    return Value(piece.context_id, control, bytes(piece.data))


def joined(found: list[Value | bytes]) -> list[Value | bytes]:
    """Join fragments as a message does: up to the last one, in one context."""
    whole: list[Value | bytes] = []
    for one in found:
        last = whole[-1] if whole else None
        if (
            isinstance(one, Value)
            and isinstance(last, Value)
            and last.context_id == one.context_id
            and not last.control & 2
            and last.control & 1 == one.control & 1
        ):
            whole[-1] = Value(one.context_id, one.control, last.data + one.data)
        else:
            whole.append(one)
    return whole


@settings(deadline=None)
@given(st.lists(pdus, min_size=1, max_size=4), cuts)
def test_cutting_changes_nothing(sent: list[list[Value] | bytes], cuts: list[int]) -> None:
    data = b"".join(map(encoded, sent))
    expected: list[Value | bytes] = []
    for pdu in sent:
        expected += pdu if isinstance(pdu, list) else [encoded(pdu)]

    assert pieces(data, cuts) == joined(expected)


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=3), cuts)
def test_data_that_nobody_expects_is_given_out_as_a_whole(
    sent: list[Value], cuts: list[int]
) -> None:
    pdu = p_data(sent)
    if len(pdu) <= MAX_WHOLE_PDU:
        assert pieces(pdu, cuts, cut_data=False) == [pdu]


@settings(deadline=None)
@given(st.binary(max_size=5000), cuts)
def test_any_bytes_are_pieces_or_a_protocol_error(data: bytes, cuts: list[int]) -> None:
    stream, at = PduStream(), 0
    while at < len(data):
        space = stream.space()
        part = data[at : at + min(len(space), cuts[0])]
        space[: len(part)] = part
        stream.received(len(part))
        at += len(part)
        try:
            while stream.next(cut_data=True) is not None:
                pass
        except ProtocolError:
            return


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\0\0\0\0\0",
        b"\x08\0\0\0\0\0",
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x04\0\0\0\0\0",
        b"\x04\0\0\0\0\5\0\0\0\1\1",
        struct.pack(">BxLLBB", 4, 10, 1, 1, 3) + bytes(4),
        struct.pack(">BxLLBB", 4, 10, 7, 1, 3) + bytes(4),
        struct.pack(">BxLLBB", 4, 6, 0xFFFFFFFF, 1, 3),
        struct.pack(">BxL", 1, MAX_WHOLE_PDU + 1),
    ],
)
def test_what_is_no_pdu_is_told(data: bytes) -> None:
    stream = PduStream()
    stream.space()[: len(data)] = data
    stream.received(len(data))

    with pytest.raises(ProtocolError):
        while stream.next(cut_data=True) is not None:
            pass


def test_a_pdu_of_four_gigabytes_takes_no_memory_for_it() -> None:
    stream = PduStream()
    head = struct.pack(">BxLLBB", 4, 0xFFFFFFFE, 0xFFFFFFFA, 1, 2)
    stream.space()[: len(head)] = head
    stream.received(len(head))
    assert stream.next(cut_data=True) is None
    for _ in range(100):
        space = stream.space()
        assert len(space) <= 1 << 20
        stream.received(len(space))
        piece = stream.next(cut_data=True)
        assert isinstance(piece, Fragment)
        assert not piece.is_last


def test_a_pdu_at_the_limit_fits() -> None:
    pdu = struct.pack(">BxL", 1, MAX_WHOLE_PDU) + bytes(MAX_WHOLE_PDU)

    assert pieces(pdu + RELEASE_RQ, [100_000]) == [pdu, RELEASE_RQ]
