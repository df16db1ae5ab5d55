"""PDUs, values, fragments and command sets, without a socket, against a model."""

from __future__ import annotations

import pytest
from conversation import encode, ending, messages_of, pdus_of, values_of, whole
from damage import damaged, splice
from inputs import Rng, run
from model import Echoed, Refused, Stored, Understood, understand
from raw_pdus import associate_request

from scp.errors import ProtocolError
from scp.transport.command import Command, Outcome
from scp.transport.messages import Messages
from scp.transport.stream import PduStream, WholePdu

ACCEPTED = frozenset((1, 3, 5, 7, 9, 11, 13))
_START = associate_request([("1.2.840.10008.1.1", ["1.2.840.10008.1.2"])])
N_NORMAL, N_SLOW = 4_000, 90_000


class Reception:
    """Takes fragments as the file store does: nothing is copied before `flush`, or the next one."""

    def __init__(self, peer: Peer, context_id: int, command: Command) -> None:
        self._peer = peer
        self._begun = context_id, command
        self._is_holding = command.message_id % 2 == 1
        self._held: list[memoryview] = []
        self._waiting: list[memoryview] = []
        self._data = bytearray()
        self.is_open = True

    def write(self, data: memoryview) -> None:
        assert self.is_open
        self._waiting.append(data)

    def flush(self) -> bool:
        for part in self._held:
            self._data += part
        self._held, self._waiting = self._waiting, []
        if not self._is_holding and self._held:
            self.flush()
        return self._is_holding

    def finish(self) -> Outcome:
        self.flush()
        self.flush()
        self.is_open = False
        context_id, command = self._begun
        self._peer.found.append(
            Stored(
                context_id,
                command.message_id,
                command.sop_class_uid,
                command.sop_instance_uid,
                bytes(self._data),
            )
        )
        return Outcome(0)

    def discard(self) -> None:
        self.is_open = False


class Peer:
    """The transport without socket and state machine."""

    def __init__(self) -> None:
        self.found: list[bytes | Stored | Echoed | Refused] = []
        self.receptions: list[Reception] = []
        self.is_wrong = self.is_over = False
        self._stream = PduStream()
        self._messages = Messages(self._begin, self._answer)
        self._established = False

    def feed(self, data: bytes, rng: Rng) -> None:
        """Receive all of it, however cut; sixty pieces somewhere in it may be absurdly small."""
        size = rng.choice((1, 2, 5, 6, 7, 100, 1460, 5000, 1 << 20))
        small = rng.randint(-60, len(data))
        at = 0
        try:
            while at < len(data) and not self.is_over:
                space = self._stream.space(is_held=self._messages.flush())
                assert 0 < len(space) <= 1 << 20
                wanted = size if small <= at < small + 60 * size else 3000
                part = data[at : at + min(wanted, len(space))]
                space[: len(part)] = part
                self._stream.received(len(part))
                at += len(part)
                self._take_all()
        except ProtocolError:
            self.is_wrong = True
        finally:
            self._messages.discard()

    def _take_all(self) -> None:
        while not self.is_over:
            piece = self._stream.next(cut_data=self._established)
            if piece is None:
                return
            if isinstance(piece, WholePdu):
                self.found.append(piece.data)
                self._established = self._established or piece.data[0] == 1
                self.is_over = piece.data[0] in (5, 6, 7)
            else:
                self._messages.take(piece)

    def _begin(self, context_id: int, command: Command) -> Reception:
        if context_id not in ACCEPTED:
            raise ProtocolError("not accepted")
        reception = Reception(self, context_id, command)
        self.receptions.append(reception)
        return reception

    def _answer(self, context_id: int, command: Command, outcome: Outcome) -> None:
        if command.field == 1:
            last = self.found[-1]
            assert isinstance(last, Stored)
            assert last.message_id == command.message_id
            return
        if context_id not in ACCEPTED:
            raise ProtocolError("not accepted")
        if command.field == 0x30:
            assert outcome.status == 0
            self.found.append(Echoed(context_id, command.message_id))
        else:
            assert outcome.status == 0x0211
            self.found.append(Refused(context_id, command.field, command.message_id))


def check(data: bytes, rng: Rng) -> Understood:
    expected = understand(data, ACCEPTED)
    peer = Peer()
    peer.feed(data, rng)

    assert peer.found == expected.found
    assert peer.is_wrong == expected.is_wrong
    assert len(peer.receptions) == expected.n_begun
    assert not any(one.is_open for one in peer.receptions)
    return expected


def conversation(rng: Rng) -> bytes:
    """One that was valid, damaged or not."""
    start = [whole(_START)] if rng.chance(0.9) else []
    content = damaged(rng, messages_of(rng), ending(rng), start)
    if rng.chance(0.1):
        content = splice(rng, content, damaged(rng, messages_of(rng), ending(rng), start))
    return content


def one_input(rng: Rng) -> None:
    rng.made = conversation(rng)
    check(rng.made, rng)


def test_conversations() -> None:
    run("stream", N_NORMAL, one_input)


@pytest.mark.slow
def test_many_conversations() -> None:
    run("stream", N_SLOW, one_input)


def test_the_model_understands_what_is_not_damaged() -> None:
    """Or else the comparison would compare nothing."""
    rng, n_stored = Rng("undamaged"), 0
    for _ in range(200):
        messages = [one for one in messages_of(rng) if one.context_id in ACCEPTED]
        values = [value for one in messages for value in values_of(one, 500)]
        found = check(encode([whole(_START), *pdus_of(values, 3)]), rng)
        sent = [one.data for one in messages if one.command[1].value == b"\1\0"]
        assert [one.data for one in found.stored] == sent
        assert not found.is_wrong
        n_stored += len(sent)
    assert n_stored > 150
