"""The DICOM Upper Layer of one association (PS3.8 Section 9), driven by the association's thread.

pynetdicom's state machine is kept, with its actions and its transition table. Its reactor is not:
here nothing runs until somebody asks for the next PDU, and then the thread sleeps in ``recv``.
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC
from pynetdicom.timer import Timer

from ..errors import ProtocolError
from .associate import A_ASSOCIATE_RQ, check_associate_request
from .negotiation import Negotiated, Negotiations
from .stream import Fragment, PduStream

if TYPE_CHECKING:
    from pynetdicom.association import Association

_IDLE, _AWAITING_REQUEST, _AWAITING_ANSWER = "Sta1", "Sta2", "Sta3"
_ESTABLISHED, _AWAITING_CLOSE = "Sta6", "Sta13"
_REQUESTED, _CLOSED, _ARTIM_EXPIRED, _INVALID_PDU = "Evt6", "Evt17", "Evt18", "Evt19"
# How long a peer may take to read our last PDU and close. Closing first would reset the connection
# if it is still sending, and with a reset it may never see why it was aborted.
_LINGER_SECONDS = 1.0
_DISCARD_BYTES = 65536


class FragmentSink(Protocol):
    """Where the fragments of messages go."""

    def take(self, fragment: Fragment) -> None:
        """Take one fragment; raises `ProtocolError` if it cannot stand there."""

    def flush(self) -> bool:
        """Let go of the memory of fragments; True to use that of the last ones until the next."""


class Line(queue.Queue[Any]):
    """A queue for one thread; `put` may be called by any."""

    def __init__(self) -> None:
        # Not `super().__init__`: one thread needs neither its lock nor its three conditions, which
        # take 15 microseconds to make, and an association has four queues.
        self.queue = deque()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Append."""
        self.queue.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return the next; raise `queue.Empty` at once if there is none: nobody would bring it."""
        if not self.queue:
            raise queue.Empty
        return self.queue.popleft()

    def get_nowait(self) -> Any:
        """Return the next."""
        return self.get()

    def empty(self) -> bool:
        """Return whether there is nothing in it."""
        return not self.queue


class UpperLayer(DULServiceProvider):
    """A DUL service provider without a thread.

    Parameters
    ----------
    association : Association
    sink : FragmentSink
        Takes the fragments of P-DATA-TF PDUs in state 6 (PS3.8 Table 9-10, action DT-2), past the
        state machine, which such a PDU does not move.
    negotiations : Negotiations
        Requests that need not be decoded again.

    Attributes
    ----------
    timed_out : bool
        The peer has been silent for longer than `network_timeout`.
    abort_wanted : bool
        Another thread wants the association to be aborted.
    request : bytes
        The A-ASSOCIATE-RQ PDU, once it has come.
    known_request : Negotiated or None
        What an equal request led to.
    acceptance : bytes
        The A-ASSOCIATE-AC PDU, once it was sent.
    before_receiving : callable or None
        Waits on the connection in state 6; returns False if there are no bytes to receive.
    """

    def __init__(
        self, association: Association, sink: FragmentSink, negotiations: Negotiations
    ) -> None:
        # Not `super().__init__`, but what it sets: it makes a thread, which would not be started.
        self._assoc = association
        self.socket = None
        self.event_queue, self._recv_pdu = Line(), Line()
        self.to_provider_queue, self.to_user_queue = Line(), Line()
        self._idle_timer, self.artim_timer = Timer(None), Timer(None)
        self.state_machine = StateMachine(self)
        self._kill_thread = False
        self.timed_out = self.abort_wanted = False
        self.request = self.acceptance = b""
        self.known_request: Negotiated | None = None
        self.before_receiving: Callable[[socket.socket], bool] | None = None
        self._negotiations = negotiations
        self._stream = PduStream()
        self._sink = sink
        self._is_running = False
        self._is_settling = False

    def start(self) -> None:
        """Be ready; there is no thread to start."""
        self._is_running = True
        self._idle_timer.start()

    def is_alive(self) -> bool:
        """Return whether the state machine may still be driven."""
        return self._is_running and not self._kill_thread

    def idle_timer_expired(self) -> bool:
        """Return whether the peer was silent for too long."""
        return self.timed_out

    def send_pdu(self, primitive: Any) -> None:
        """Send a primitive; at once if the association's own thread asks."""
        super().send_pdu(primitive)
        if self._is_own_thread() and not self._is_settling:
            self.settle()

    def send_encoded(self, pdus: list[bytes]) -> None:
        """Send encoded P-DATA-TF PDUs in state 6 (action DT-1)."""
        if self.state_machine.current_state == _ESTABLISHED and self.socket is not None:
            self.socket.send(b"".join(pdus))
            self.settle()

    def accept(self, answer: bytes) -> None:
        """Send an encoded A-ASSOCIATE-AC PDU in state 3 (action AE-7)."""
        if self.state_machine.current_state == _AWAITING_ANSWER and self.socket is not None:
            self.socket.send(answer)
            self.state_machine.transition(_ESTABLISHED)
            self.settle()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:
        """Return the next primitive for the service user, waiting for it if asked."""
        if wait and self._is_own_thread():
            deadline = None if timeout is None else time.monotonic() + timeout
            while self.to_user_queue.empty() and self.is_alive():
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    break
                self.pump(remaining)
        return super().receive_pdu(wait=False)

    def stop_dul(self) -> bool:
        """Bring the state machine to state 1 if it is not there, and stop."""
        if self._is_own_thread() and self.state_machine.current_state != _IDLE:
            self._close()
        if self.state_machine.current_state == _IDLE:
            self._kill_thread = True
        return self._kill_thread

    def pump(self, timeout: float | None = None) -> None:
        """Do the next thing there is to do: settle events, process one PDU, or receive.

        Parameters
        ----------
        timeout : float or None
            Seconds that receiving may take, if not what the connection itself allows.
        """
        self.settle()
        if not self.is_alive():
            return
        if self.state_machine.current_state == _AWAITING_CLOSE:
            self._close()
            return
        try:
            self._advance(timeout)
        except ProtocolError as error:
            self.refuse(error)

    def refuse(self, _error: ProtocolError) -> None:
        """Abort, because what came is no valid PDU or message (PS3.8 Section 9.3.8)."""
        self.event_queue.put(_INVALID_PDU)
        self.settle()

    def settle(self) -> None:
        """Let the state machine act on all events there are."""
        if self._is_settling or self._is_settled():
            return
        self._is_settling = True
        try:
            while not self._kill_thread:
                if self.artim_timer.expired and self.event_queue.empty():
                    self.event_queue.put(_ARTIM_EXPIRED)
                if self.event_queue.empty() and not self._process_recv_primitive():
                    return
                self._act(self.event_queue.get_nowait())
        finally:
            self._is_settling = False

    def _is_settled(self) -> bool:
        """Tell, at no cost, whether there is nothing to act on: so it is while images come."""
        return (
            self.state_machine.current_state == _ESTABLISHED
            and not self.event_queue.queue
            and not self.to_provider_queue.queue
        )

    def _act(self, event: str) -> None:
        try:
            self.state_machine.do_action(event)
        except Exception:  # noqa: BLE001 - pynetdicom decodes what a peer sent and raises anything
            self.give_up()

    def _advance(self, timeout: float | None) -> None:
        """Give out all pieces that are there; receive if there are none."""
        state = self.state_machine
        piece = self._stream.next(cut_data=state.current_state == _ESTABLISHED)
        if piece is None:
            if not self._receive(timeout):
                return
            piece = self._stream.next(cut_data=state.current_state == _ESTABLISHED)
        while isinstance(piece, Fragment):
            self._sink.take(piece)
            if self._kill_thread or state.current_state != _ESTABLISHED:
                return
            piece = self._stream.next(cut_data=True)
        if piece is not None:
            self._take_pdu(piece.data)

    def _send(self, pdu: Any) -> None:
        if isinstance(pdu, A_ASSOCIATE_AC):
            self.acceptance = pdu.encode()
        super()._send(pdu)

    def _take_pdu(self, data: bytes) -> None:
        if data[0] == A_ASSOCIATE_RQ and self.state_machine.current_state == _AWAITING_REQUEST:
            self.request = data
            self.known_request = self._negotiations.find(data)
            if self.known_request is not None:
                self._put(self.known_request, _REQUESTED)
                return
        if data[0] == A_ASSOCIATE_RQ:
            check_associate_request(data)
        try:
            pdu, event = self._decode_pdu(bytearray(data))
        except Exception as error:  # noqa: BLE001 - whatever pynetdicom raises on a hostile PDU
            raise ProtocolError(f"a PDU cannot be decoded ({type(error).__name__})") from None
        self._put(pdu, event)

    def _put(self, pdu: Any, event: str) -> None:
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)
        self.settle()

    def _receive(self, timeout: float | None) -> bool:
        """Receive once; False if nothing came."""
        connection = self._connection()
        if connection is None:
            self.event_queue.put(_CLOSED)
            return False
        if (
            self.before_receiving is not None
            and self.state_machine.current_state == _ESTABLISHED
            and not self.before_receiving(connection)
        ):
            return False
        is_held = self._sink.flush()
        try:
            if timeout is not None:
                connection.settimeout(max(timeout, 0.001))
            n_bytes = connection.recv_into(self._stream.space(is_held=is_held))
        except (TimeoutError, BlockingIOError):
            # The kernel's own time-out shows as EAGAIN, Python's as TimeoutError.
            self.timed_out = timeout is None
            return False
        except OSError:
            n_bytes = 0
        if not n_bytes:
            # What woke this thread to abort looks like an end; an A-ABORT can be sent all the same.
            if not (self.abort_wanted and self.state_machine.current_state == _ESTABLISHED):
                self.event_queue.put(_CLOSED)
                self.settle()
            return False
        self._stream.received(n_bytes)
        return True

    def _close(self) -> None:
        """Close the connection; in state 13 once the peer has closed it, or soon."""
        connection = self._connection()
        if self.state_machine.current_state == _AWAITING_CLOSE and connection is not None:
            _linger(connection)
        if self.socket is not None:
            self.socket.close()  # puts the event of a closed connection
        self.settle()
        if self.state_machine.current_state != _IDLE:
            self._kill_thread = True

    def give_up(self) -> None:
        """End the association without the state machine, which has lost its way."""
        self.assoc.is_aborted = True
        self.assoc.is_established = False
        self.assoc._kill = True
        self._kill_thread = True
        if self.socket is not None:
            abort = A_ABORT_RQ()
            abort.source, abort.reason_diagnostic = 2, 0
            self.socket.send(abort.encode())
            self.socket.close()

    def _connection(self) -> socket.socket | None:
        return None if self.socket is None else self.socket.socket

    def _is_own_thread(self) -> bool:
        return threading.current_thread() is self.assoc


def set_timeouts(connection: socket.socket, seconds: float, *, is_tls: bool) -> None:
    """Let no system call on a connection take longer.

    The kernel keeps this time-out; Python's own would poll before every call. TLS needs Python's,
    because its layer tries again on what the kernel reports.
    """
    connection.settimeout(seconds if is_tls else None)
    if not is_tls:
        interval = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, direction, interval)


def _linger(connection: socket.socket) -> None:
    """Say that nothing more will be sent; take in what comes until the peer closes, or a second."""
    deadline = time.monotonic() + _LINGER_SECONDS
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while (remaining := deadline - time.monotonic()) > 0:
            connection.settimeout(remaining)
            if not connection.recv(_DISCARD_BYTES):
                return
