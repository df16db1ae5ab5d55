"""A storage SCU that sends what it is told to, byte by byte if need be, also what is wrong.

`raw_pdus` makes the bytes, `RawAssociation` sends them over a socket and reads the answers. Nothing
in between knows better: no state machine, no time-outs but the socket's.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Sequence
from types import TracebackType

from raw_pdus import (
    ABORT,
    AFFECTED_INSTANCE,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    IMPLICIT_LITTLE,
    LAST,
    P_DATA,
    RELEASE_RP,
    RESPONDED_ID,
    STATUS,
    VERIFICATION,
    Instance,
    abort,
    associate_request,
    echo_command,
    pdu,
    pdv,
    read_command_set,
    release_request,
    store_pdus,
)


class Gone(Exception):  # noqa: N818 - an end, no error
    """The peer closed or reset the connection."""


class Aborted(Gone):
    """The peer sent A-ABORT; `source` and `reason` as in PS3.8 Section 9.3.8."""

    def __init__(self, source: int, reason: int) -> None:
        super().__init__(f"A-ABORT, source {source}, reason {reason}")
        self.source, self.reason = source, reason


class Rejected(Exception):  # noqa: N818 - an answer, not an error
    """The peer sent A-ASSOCIATE-RJ; `answer` is (result, source, reason)."""

    def __init__(self, answer: tuple[int, int, int]) -> None:
        super().__init__(f"A-ASSOCIATE-RJ {answer}")
        self.answer = answer


class RawAssociation:
    """One association, or one connection that is to become none.

    Parameters
    ----------
    port : int
    contexts : sequence of (abstract syntax, transfer syntax)
        Proposed one by one; none: only a connection is made.
    timeout : float
        Seconds to wait for anything from the peer.

    Raises
    ------
    Rejected, Aborted, Gone
        What the peer did instead of accepting.
    """

    def __init__(
        self,
        port: int,
        contexts: Iterable[tuple[str, str]] = ((VERIFICATION, IMPLICIT_LITTLE),),
        *,
        calling: str = "RAW",
        called: str = "PREREAD",
        timeout: float = 30.0,
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted: dict[tuple[str, str], int] = {}
        self._message_id = 0
        asked = list(contexts)
        if not asked:
            return
        try:
            self.send(associate_request([(one, [other]) for one, other in asked], called, calling))
            self._negotiate(asked)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RawAssociation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if kind is None and self.accepted:
            self.release()
        self.close()

    def _negotiate(self, asked: Sequence[tuple[str, str]]) -> None:
        kind, body = self.read()
        if kind == ASSOCIATE_RJ:
            raise Rejected((body[1], body[2], body[3]))
        assert kind == ASSOCIATE_AC, f"PDU type {kind}"
        at = 68
        while at + 4 <= len(body):
            of_kind, length = struct.unpack_from(">BxH", body, at)
            if of_kind == 0x21 and body[at + 6] == 0:
                self.accepted[asked[body[at + 4] // 2]] = body[at + 4]
            at += 4 + length

    def send(self, content: bytes, piece: int | None = None, pause: float = 0.0) -> None:
        """Send bytes as they are, in pieces of `piece` bytes with `pause` seconds between."""
        try:
            if piece is None:
                self.socket.sendall(content)
                return
            for start in range(0, len(content), piece):
                self.socket.sendall(content[start : start + piece])
                time.sleep(pause)
        except ConnectionError as error:
            raise Gone(repr(error)) from error

    def read(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU; an A-ABORT is raised."""
        kind, length = struct.unpack(">BxL", self._exactly(6))
        body = self._exactly(length)
        if kind == ABORT:
            raise Aborted(body[2], body[3])
        return kind, body

    def _exactly(self, length: int) -> bytes:
        got = bytearray()
        try:
            while len(got) < length:
                part = self.socket.recv(length - len(got))
                if not part:
                    raise Gone(f"end of the connection after {len(got)} of {length} bytes")
                got += part
        except ConnectionError as error:
            raise Gone(repr(error)) from error
        return bytes(got)

    def response(self) -> dict[int, int | str]:
        """Return the next command set from the peer (nothing that is tested answers with data)."""
        encoded = b""
        while True:
            kind, body = self.read()
            assert kind == P_DATA, f"PDU type {kind}"
            at = 0
            while at < len(body):
                length, _, control = struct.unpack_from(">LBB", body, at)
                encoded += body[at + 6 : at + 4 + length]
                at += 4 + length
                if control & LAST:
                    assert at == len(body)
                    return read_command_set(encoded)

    def request(self, instance: Instance, size: int = 16372, together: int = 1) -> None:
        """Send a C-STORE-RQ and wait for nothing."""
        self._message_id = self._message_id % 0xFFFF + 1
        context_id = self.accepted[instance.context]
        for encoded in store_pdus(instance, context_id, self._message_id, size, together):
            self.send(encoded)

    def store(self, instance: Instance, size: int = 16372, together: int = 1) -> int:
        """Send a C-STORE-RQ and return the status of the response to it."""
        self.request(instance, size, together)
        answer = self.response()
        assert answer[RESPONDED_ID] == self._message_id
        assert answer[AFFECTED_INSTANCE] == instance.sop_instance_uid
        return int(answer[STATUS])

    def echo(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        context_id = self.accepted[VERIFICATION, IMPLICIT_LITTLE]
        self.send(pdu(P_DATA, pdv(context_id, COMMAND | LAST, echo_command(self._message_id))))
        return int(self.response()[STATUS])

    def release(self) -> None:
        self.send(release_request())
        kind, _ = self.read()
        assert kind == RELEASE_RP, f"PDU type {kind}"
        self.close()

    def abort(self) -> None:
        self.send(abort())
        self.close()

    def close(self) -> None:
        """Close the connection (FIN) without a word."""
        self.socket.close()

    def reset(self) -> None:
        """Close the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def vanish(self) -> None:
        """Disappear without FIN or RST, as if power failed; PermissionError if not root."""
        tcp_repair = 19  # a socket in repair mode (linux/tcp.h) tells its peer nothing
        self.socket.setsockopt(socket.IPPROTO_TCP, tcp_repair, 1)
        self.socket.close()


def rejection(
    port: int,
    calling: str = "SENDER",
    called: str = "PREREAD",
    abstract_syntax: str = VERIFICATION,
) -> tuple[int, int, int] | None:
    """Return what a request for an association is rejected with, None if it is accepted.

    pynetdicom's requestor does not always tell: it takes a rejection that comes faster than its own
    thread goes on for a failure to connect.
    """
    try:
        contexts = ((abstract_syntax, IMPLICIT_LITTLE),)
        with RawAssociation(port, contexts, calling=calling, called=called):
            return None
    except Rejected as rejected:
        return rejected.answer
