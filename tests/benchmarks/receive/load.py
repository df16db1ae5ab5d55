"""The load generator: associations that send what was encoded before the clock started.

One request at a time is outstanding on an association, as with nearly all modalities, and every
status is looked at. The bytes of an image, PDU heads and all, are encoded once for all
associations; only its UIDs and the Message ID are written into place, so that the sender, which
shares the cores with the receiver, costs next to nothing.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from phantoms import UID_LENGTH, Image, Uids, UidSource
from raw_pdus import (
    ASSOCIATE_AC,
    COMMAND,
    IMPLICIT_LITTLE,
    LAST,
    P_DATA,
    RELEASE_RP,
    STATUS,
    VERIFICATION,
    Instance,
    associate_request,
    echo_command,
    pdu,
    pdv,
    pdvs,
    read_command_set,
    release_request,
    store_command,
)

# Presentation contexts.
_VERIFICATION, _IMAGE = 1, 3
# What stands before a fragment: PDU head, PDV length, context, message control header.
_FRAGMENT_HEAD = 12
# What a sender does where the receiver takes PDUs of any size.
_LARGEST_PDU = 1 << 20
_OWN_MAX_PDU = 16384
_TIMEOUT_SECONDS = 120


class ProtocolError(Exception):
    """The peer answered what it must not, or refused."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send."""

    port: int
    called_ae: str = "ANY-SCP"
    host: str = "127.0.0.1"
    calling_ae: str = "BENCHMARK"


@dataclass(slots=True)
class Load:
    """What was sent and acknowledged, and how long each request took, in seconds."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def n(self) -> int:
        return len(self.latencies)

    @property
    def per_second(self) -> float:
        return self.n / self.seconds if self.seconds else 0.0


class Association:
    """An open association with one image's presentation context and Verification."""

    def __init__(self, target: Target, image: Image) -> None:
        self._image = image
        self._socket = socket.create_connection((target.host, target.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # In the kernel: Python's own time-outs would double the system calls.
        interval = struct.pack("@ll", _TIMEOUT_SECONDS, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
        contexts = [
            (VERIFICATION, [IMPLICIT_LITTLE]),
            (image.sop_class, [image.transfer_syntax]),
        ]
        self._socket.sendall(
            associate_request(contexts, target.called_ae, target.calling_ae, _OWN_MAX_PDU)
        )
        accepted, largest = _read_accepted(self._receive(ASSOCIATE_AC))
        if _IMAGE not in accepted:
            raise ProtocolError(f"{image.kind} was not accepted by {target.called_ae}")
        self.max_pdu = min(largest or _LARGEST_PDU, _LARGEST_PDU)
        self.stream: Stream | None = None
        self._message_ids = itertools.cycle(range(1, 65536))

    def store(self, uids: Uids) -> None:
        """Send one image and wait for its success."""
        assert self.stream is not None, "opened for C-ECHO only"
        self.stream.send(self._socket, uids, next(self._message_ids))
        self._require_success()

    def echo(self) -> None:
        """Send one C-ECHO-RQ and wait for its success."""
        command = echo_command(next(self._message_ids))
        self._socket.sendall(pdu(P_DATA, pdv(_VERIFICATION, COMMAND | LAST, command)))
        self._require_success()

    def release(self) -> None:
        """Release the association and close the connection."""
        self._socket.sendall(release_request())
        self._receive(RELEASE_RP)
        self.close()

    def close(self) -> None:
        """Close the connection, without a word if the association is still open."""
        self._socket.close()

    def _require_success(self) -> None:
        # The answer is one PDV: the peer's command set is smaller than any PDU.
        status = int(read_command_set(self._receive(P_DATA)[6:])[STATUS])
        if status != 0x0000:
            raise ProtocolError(f"{self._image.kind} was answered with 0x{status:04X}")

    def _receive(self, expected: int) -> bytes:
        head = self._read(6)
        body = self._read(int.from_bytes(head[2:], "big"))
        if head[0] != expected:
            raise ProtocolError(
                f"PDU 0x{head[0]:02X} ({body[:4].hex()}) where 0x{expected:02X} was due"
            )
        return body

    def _read(self, n: int) -> bytes:
        received = self._socket.recv(n, socket.MSG_WAITALL)
        if len(received) < n:
            raise ProtocolError("the peer closed the connection")
        return received


def _read_accepted(body: bytes) -> tuple[set[int], int]:
    """Return the accepted contexts of an A-ASSOCIATE-AC and the largest PDU that the peer takes."""
    contexts, max_pdu, offset = set(), 16384, 68
    while offset < len(body):
        kind, length = struct.unpack_from(">BxH", body, offset)
        if kind == 0x21 and body[offset + 6] == 0:
            contexts.add(body[offset + 4])
        if kind == 0x51:
            (max_pdu,) = struct.unpack_from(">L", body, offset + 4)
        # The items of the user information (0x50) follow its head.
        offset += 4 if kind == 0x50 else 4 + length
    return contexts, max_pdu


class Stream:
    """The bytes of a C-STORE request on the wire: a head with places for UIDs, and the rest.

    One object serves any number of associations that negotiated the same largest PDU.
    """

    def __init__(self, image: Image, max_pdu: int) -> None:
        uids = Uids(*("0" * UID_LENGTH,) * 3)
        instance = Instance(image.sop_class, uids.instance, image.transfer_syntax, b"")
        command = pdu(P_DATA, pdv(_IMAGE, COMMAND | LAST, store_command(instance)))
        data = image.head(uids) + image.pixels * image.repeats
        size = max_pdu - _FRAGMENT_HEAD + 6  # a PDU's length does not count its head of six bytes
        stream = command + b"".join(pdu(P_DATA, part) for part in pdvs(_IMAGE, 0, data, size))
        data_at = len(command) + _FRAGMENT_HEAD
        self._id_at = command.index(struct.pack("<HHLH", 0, 0x0110, 2, 1)) + 8
        self._places = [("instance", command.index(uids.instance.encode()))]
        self._places += [(name, data_at + offset) for name, offset in image.places.items()]
        # The UIDs stand in the first fragment: no PDU is smaller than this head.
        end = max(offset for _, offset in self._places) + UID_LENGTH
        self._head, self._rest = stream[:end], memoryview(stream)[end:]

    def send(self, connection: socket.socket, uids: Uids, message_id: int) -> None:
        """Send the request."""
        head = bytearray(self._head)
        struct.pack_into("<H", head, self._id_at, message_id)
        for name, offset in self._places:
            value = getattr(uids, name).encode()
            head[offset : offset + len(value)] = value
        sent = connection.sendmsg([head, self._rest])
        if sent < len(head):
            connection.sendall(head[sent:])
        connection.sendall(self._rest[max(0, sent - len(head)) :])


class Sender:
    """Opens associations for one image and encodes it once for all of them."""

    def __init__(self, target: Target, image: Image, uids: UidSource) -> None:
        self._target = target
        self._image = image
        self._uids = uids
        self._streams: dict[int, Stream] = {}

    def open(self) -> Association:
        """Open an association."""
        association = Association(self._target, self._image)
        if association.max_pdu not in self._streams:
            self._streams[association.max_pdu] = Stream(self._image, association.max_pdu)
        association.stream = self._streams[association.max_pdu]
        return association

    def instances(self) -> Iterator[Uids]:
        """Yield UIDs for images that go over one association."""
        return self._uids.instances(self._image.per_series)

    def for_seconds(self, n_associations: int, seconds: float) -> Load:
        """Store over several associations until `seconds` have passed; each ends its last image.

        Each stores one at least, however late its thread begins.
        """

        def store(association: Association, latencies: list[float], end: float) -> None:
            source, now = self.instances(), time.perf_counter()
            while not latencies or now < end:
                association.store(next(source))
                before, now = now, time.perf_counter()
                latencies.append(now - before)

        return self._run(n_associations, store, seconds)

    def times(self, n_associations: int, n_each: int) -> Load:
        """Store `n_each` images over each of several associations."""

        def store(association: Association, latencies: list[float], _end: float) -> None:
            for uids in itertools.islice(self.instances(), n_each):
                began = time.perf_counter()
                association.store(uids)
                latencies.append(time.perf_counter() - began)

        return self._run(n_associations, store, 0.0)

    def steadily(self, n_associations: int, per_second: float, seconds: float) -> Load:
        """Store at a steady rate over several associations that take turns.

        An image that is late, because its association still waits, is sent as soon as it can be.
        """
        interval = n_associations / per_second
        places = itertools.count()

        def store(association: Association, latencies: list[float], end: float) -> None:
            source = self.instances()
            due = end - seconds + interval * next(places) / n_associations
            while due < end:
                time.sleep(max(0.0, due - time.perf_counter()))
                began = time.perf_counter()
                association.store(next(source))
                latencies.append(time.perf_counter() - began)
                due += interval

        return self._run(n_associations, store, seconds)

    def one_each(self, seconds: float) -> Load:
        """Store one image per association, one association after the other."""
        load, source = Load(), self.instances()
        began = now = time.perf_counter()
        while now < began + seconds:
            association = self.open()
            association.store(next(source))
            association.release()
            before, now = now, time.perf_counter()
            load.latencies.append(now - before)
        load.seconds = now - began
        return load

    def _run(
        self,
        n_associations: int,
        store: Callable[[Association, list[float], float], None],
        seconds: float,
    ) -> Load:
        with ExitStack() as stack:
            associations = [
                stack.enter_context(closing(self.open())) for _ in range(n_associations)
            ]
            latencies: list[list[float]] = [[] for _ in associations]
            threads = stack.enter_context(ThreadPoolExecutor(n_associations))
            began = time.perf_counter()
            running = [
                threads.submit(store, association, own, began + seconds)
                for association, own in zip(associations, latencies, strict=True)
            ]
            for one in running:
                one.result()
            elapsed = time.perf_counter() - began
            for association in associations:
                association.release()
        return Load(elapsed, list(itertools.chain.from_iterable(latencies)))
