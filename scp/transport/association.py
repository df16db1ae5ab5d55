"""An association as acceptor whose one thread receives, stores and answers."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR, MODE_REQUESTOR
from pynetdicom.association import Association, ServiceUser
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.transport import AssociationSocket

from ..errors import ProtocolError
from .command import Command, Notice, Outcome, event_report, p_data, response
from .messages import Messages, Reception, StoreService
from .negotiation import Negotiations, RememberingACSE
from .reports import Reports, Waited
from .upper_layer import UpperLayer, set_timeouts

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity
    from pynetdicom.presentation import PresentationContext

_LOG = structlog.get_logger()
# For events by which threads of pynetdicom wait for each other: here there is one thread.
_ALWAYS = threading.Event()
_ALWAYS.set()


class StreamingAssociation(Association):
    """pynetdicom's association on the transport of this package.

    Parameters
    ----------
    entity : ApplicationEntity
        With the time-outs.
    connection : socket.socket
        Accepted from a peer; under TLS already wrapped, the handshake still to come.
    store : StoreService
        Receives the images.
    negotiations : Negotiations
        What was negotiated with the same `entity` before.
    """

    def __init__(
        self,
        entity: ApplicationEntity,
        connection: socket.socket,
        store: StoreService,
        negotiations: Negotiations,
    ) -> None:
        # Not `super().__init__`, but what it sets for an acceptor: it makes a provider with a
        # thread and four queues, which are never used.
        threading.Thread.__init__(self, daemon=True)
        self._ae, self.mode, self._server = entity, MODE_ACCEPTOR, None
        self._handlers: dict[Any, Any] = {}
        self.requestor = ServiceUser(self, MODE_REQUESTOR)
        self.acceptor = ServiceUser(self, MODE_ACCEPTOR)
        self.is_established = self.is_rejected = self.is_aborted = self.is_released = False
        self._sent_abort = self._sent_release = False
        self._kill = self._started_dul = self._is_paused = False
        self._accepted_cx: dict[int, PresentationContext] = {}
        self._rejected_cx: list[PresentationContext] = []
        self._dul_ready, self._reactor_checkpoint = _ALWAYS, _ALWAYS
        self._timer_resolution = None
        self.network_timeout_response = "A-ABORT"

        self._store = store
        self._reports: Reports | None = None
        self._messages = Messages(
            self._begin, self._answer, begin_notice=self._begin_notice, answered=self._answered
        )
        self.acse = RememberingACSE(self, negotiations)
        self.dimse = DIMSEServiceProvider(self)  # is told of an abort
        self.dul = UpperLayer(self, self._messages, negotiations)
        self.acse_timeout, self.network_timeout = entity.acse_timeout, entity.network_timeout
        self.connection_timeout, self.dimse_timeout = None, entity.dimse_timeout
        self.set_socket(AssociationSocket(self, client_socket=connection))

    def run(self) -> None:
        """Run the thread."""
        self.run_reactor()

    @property
    def upper_layer(self) -> UpperLayer:
        """The upper layer, as what it is here."""
        assert isinstance(self.dul, UpperLayer)
        return self.dul

    def run_reactor(self) -> None:
        """Serve the association from its first byte to its last."""
        try:
            if self._handshake():
                super().run_reactor()
        except Exception as error:  # noqa: BLE001 - thread boundary: pynetdicom negotiates in it
            _LOG.error("association.failed", error=type(error).__name__, exc_info=True)
            self.upper_layer.give_up()
            evt.trigger(self, evt.EVT_ABORTED, {})
        finally:
            self._messages.discard()
            self._close_connection()
            if self._reports is not None:
                self._reports.close()

    def _bind_defaults(self) -> None:
        """Bind nothing: the associations of a server share its handlers."""

    def _abort_blocking(self, block: bool = True) -> None:
        """Send an A-ABORT; another thread only asks for it and wakes this one.

        Overridden rather than `abort`, which pynetdicom replaces while it negotiates.
        """
        if threading.current_thread() is self:
            super()._abort_blocking(block)
            return
        self.upper_layer.abort_wanted = True
        connection = self._connection()
        if connection is not None:
            with suppress(OSError):  # it is closed already
                # Not that of a TLS socket, which would go on in plain text.
                socket.socket.shutdown(connection, socket.SHUT_RD)
        if block:
            self.join(self.acse_timeout)

    def _run_reactor(self) -> None:
        """Go on until the association has ended, one PDU at a time (PS3.8 Section 9.2)."""
        self._is_paused = False
        self._use_kernel_timeout()
        while not self._kill:
            self.upper_layer.pump()
            if self.upper_layer.abort_wanted or self.upper_layer.timed_out:
                self.abort()
            elif self._has_ended() or not self.dul.is_alive():
                self.kill()

    def _has_ended(self) -> bool:
        """Answer a release, take note of an abort."""
        if self.dul.to_user_queue.empty():
            return False
        if self.is_established and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released = True
            self.is_established = False
            evt.trigger(self, evt.EVT_RELEASED, {})
            return True
        if self.acse.is_aborted():
            if self.upper_layer.abort_wanted:  # the end of the connection was our own doing
                return False
            self.dul.receive_pdu(wait=False)
            self.is_aborted = True
            self.is_established = False
            evt.trigger(self, evt.EVT_ABORTED, {})
            return True
        return False

    def _begin(self, context_id: int, command: Command) -> Reception:
        context = self._accepted_cx.get(context_id)
        if context is None:
            raise ProtocolError("a C-STORE request in a presentation context not accepted")
        return self._store.begin(self, command, str(context.transfer_syntax[0]))

    def _begin_notice(self, context_id: int, request: Notice) -> Reception | None:
        context = self._accepted_cx.get(context_id)
        return (
            None if context is None else self._store.begin_notice(self, context.as_tuple, request)
        )

    def reports(self) -> Reports:
        """Return what sends reports in this association; asked for by its own thread first."""
        if self._reports is None:
            self._reports = Reports()
            self.upper_layer.before_receiving = self._report_or_wait
        return self._reports

    def _report_or_wait(self, connection: socket.socket) -> bool:
        """Wait for bytes; send a report instead if one is due. True if there are bytes."""
        reports = self._reports
        if reports is None or self._messages.is_inside_message:
            return True
        waited = reports.wait(connection, self.network_timeout)
        if waited is Waited.SILENT:
            self.upper_layer.timed_out = True
        elif waited is Waited.DUE and (due := reports.next()) is not None:
            message_id, report = due
            command = event_report(
                message_id, report.sop_class_uid, report.sop_instance_uid, report.event_type
            )
            parts = ((command, True), (report.information, False))
            self.upper_layer.send_encoded(
                [
                    pdu
                    for part, is_command in parts
                    for pdu in p_data(
                        report.context_id, part, self._largest_pdu, is_command=is_command
                    )
                ]
            )
        return waited is Waited.READABLE

    def _answered(self, response_: Notice) -> None:
        if self._reports is not None:
            self._reports.answered(response_)

    @property
    def _largest_pdu(self) -> int:
        return int(self.requestor.maximum_length or 0)

    def _answer(self, context_id: int, command: Command, outcome: Outcome) -> None:
        if context_id not in self._accepted_cx:
            raise ProtocolError("a request in a presentation context not accepted")
        encoded = response(command, outcome)
        self.upper_layer.send_encoded(list(p_data(context_id, encoded, self._largest_pdu)))

    def _handshake(self) -> bool:
        """Do the TLS handshake if there is to be one; False if it failed."""
        connection = self._connection()
        if not isinstance(connection, ssl.SSLSocket):
            return True
        try:
            connection.settimeout(self.acse_timeout)
            connection.do_handshake()
        except (OSError, ValueError) as error:  # ValueError: the peer was gone before
            handshake_failed(self.requestor.address, error)
            return False
        return True

    def _use_kernel_timeout(self) -> None:
        connection = self._connection()
        if connection is not None:
            is_tls = isinstance(connection, ssl.SSLSocket)
            with suppress(OSError):  # the next call on it will tell
                set_timeouts(connection, float(self.network_timeout or 0), is_tls=is_tls)

    def _connection(self) -> Any:
        transport = self.dul.socket
        return None if transport is None else transport.socket

    def _close_connection(self) -> None:
        connection = self._connection()
        if connection is not None:
            with suppress(OSError):
                connection.close()


def handshake_failed(peer_host: str, error: Exception) -> None:
    """Log why a peer could not be talked to through TLS."""
    reason = getattr(error, "reason", None) or type(error).__name__
    _LOG.warning("connection.tls_failed", peer_host=peer_host, reason=reason)
