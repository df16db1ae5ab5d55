"""The listening socket: accepts connections and starts an association when one begins to speak.

Load balancers and port scanners connect, say nothing and go. One thread looks after all
connections that are silent, in the kernel's readiness list, so that they cost a descriptor and
nothing else; only a first byte makes an association.
"""

from __future__ import annotations

import errno
import selectors
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

import structlog
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, ThreadedAssociationServer

from .transport import Negotiations, StoreService, StreamingAssociation
from .transport.association import handshake_failed
from .transport.upper_layer import set_timeouts

_LOG = structlog.get_logger()
_BACKLOG = 1024
# Beyond so many silent connections the oldest is closed.
_MAX_SILENT = 1024
_POLL_SECONDS = 0.5
# Out of descriptors or memory: waiting lets associations end, trying again at once does not.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener(ThreadedAssociationServer):
    """pynetdicom's server with an accept loop of its own.

    Parameters
    ----------
    entity : ApplicationEntity
        With AE title and time-outs.
    address : tuple
        Host and port to listen on.
    contexts : list of PresentationContext
        Shared by all associations, which only read them.
    handlers : list
        pynetdicom's event handlers.
    allows_address : callable
        Given the peer's address, returns False for a connection to close unheard.
    most_associations : int
        How many may be open; of connections that have not got so far, a thousand more are served.
    store : StoreService, optional
        Makes associations of the streaming transport; without one they run on pynetdicom's reactor.
    tls : ssl.SSLContext, optional
        Wraps every connection; the handshake is done by the association's thread.
    reuse_port : bool
        Other processes of the node listen on the same port (SO_REUSEPORT).
    """

    request_queue_size = _BACKLOG

    def __init__(
        self,
        entity: ApplicationEntity,
        address: tuple[str, int],
        contexts: list[PresentationContext],
        handlers: list[Any],
        *,
        allows_address: Callable[[str], bool],
        most_associations: int,
        store: StoreService | None = None,
        tls: ssl.SSLContext | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._store = store
        self.negotiations = Negotiations()
        self._tls = tls
        self._reuse_port = reuse_port
        self._allows_address = allows_address
        # Connections that have said nothing yet, oldest first, with the time until they may do so.
        self._silent: OrderedDict[socket.socket, float] = OrderedDict()
        self._ending = threading.Event()
        # Those that are admitted have their own limit; these are on their way to be, or never are.
        self._most_threads = most_associations + _MAX_SILENT
        super().__init__(entity, address, entity.ae_title, contexts, evt_handlers=handlers)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.listening, selectors.EVENT_READ)

    def server_bind(self) -> None:
        """Bind the port, alone or (with `reuse_port`) beside other processes of the node."""
        if self._reuse_port:
            self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()
        self.listening.setblocking(False)

    @property
    def listening(self) -> socket.socket:
        """The listening socket."""
        return cast(socket.socket, self.socket)

    def serve_forever(self, poll_interval: float = _POLL_SECONDS) -> None:
        """Accept until `shutdown`."""
        try:
            while not self._ending.is_set():
                try:
                    self._serve_ready(poll_interval)
                except Exception as error:  # noqa: BLE001 - thread boundary: it must go on
                    _LOG.error("connection.failed", error=type(error).__name__, exc_info=True)
                    self._ending.wait(_POLL_SECONDS)
        finally:
            self._selector.close()
            for connection in list(self._silent):
                connection.close()
            self._silent.clear()

    def _serve_ready(self, poll_interval: float) -> None:
        for key, _ in self._selector.select(poll_interval):
            if key.fileobj is self.listening:
                self._accept()
            elif key.fileobj in self._silent:  # else it was closed to make room, a moment ago
                self._speaks(cast(socket.socket, key.fileobj), key.data)
        self._close_overdue()

    def shutdown(self) -> None:
        """Accept nothing more."""
        self._ending.set()
        with suppress(OSError):  # wakes the selector at once
            self.listening.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def _accept(self) -> None:
        try:
            connection, address = self.listening.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                _LOG.error("connection.not_accepted", reason=error.strerror)
                self._close_oldest()
                self._ending.wait(_POLL_SECONDS)
            return
        if not self._allows_address(address[0]):
            _LOG.debug("connection.refused", peer_host=address[0])
            connection.close()
            return
        # Responses are small: with Nagle's algorithm each would wait for the peer's delayed ACK.
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._begins(connection, address):  # most have sent their request by now
            return
        self._remember(connection, address, time.monotonic() + float(self.ae.acse_timeout or 0))
        if len(self._silent) > _MAX_SILENT:
            self._close_oldest()

    def _speaks(self, connection: socket.socket, address: Any) -> None:
        overdue = self._silent[connection]
        self._forget(connection)  # first: its number may be another connection's very soon
        if not self._begins(connection, address):
            self._remember(connection, address, overdue)

    def _begins(self, connection: socket.socket, address: Any) -> bool:
        """Start the association of a connection, if its first byte has come; False if not."""
        try:
            first = connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            connection.setblocking(True)
        except BlockingIOError:
            return False
        except OSError:  # reset
            first = b""
        if first:
            self._serve(connection, address)
        else:
            connection.close()
        return True

    def _serve(self, connection: socket.socket, address: Any) -> None:
        if threading.active_count() > self._most_threads:
            _LOG.warning("connection.not_served", reason="too many connections that ask nothing")
            connection.close()
            return
        if self._tls is not None:
            try:
                connection = self._tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            except OSError as error:  # reset meanwhile
                handshake_failed(address[0], error)
                connection.close()
                return
        try:
            self._start_association(connection, address)
        except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
            _LOG.error("connection.not_served", reason=str(error))
            connection.close()

    def _start_association(self, connection: socket.socket, address: Any) -> None:
        if self._store is None:
            self.process_request(connection, address)
            return
        association = StreamingAssociation(self.ae, connection, self._store, self.negotiations)
        configure_acceptor(association, self, address)
        association.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection by pynetdicom's own reactor."""
        # It reads a PDU to its end without a time-out: a peer gone inside one would hold its
        # thread for ever.
        is_tls = isinstance(request, ssl.SSLSocket)
        try:
            if is_tls:
                request.settimeout(self.ae.acse_timeout)
                request.do_handshake()
            set_timeouts(request, float(self.ae.network_timeout or 0), is_tls=is_tls)
        except (OSError, ValueError) as error:  # ValueError: the peer was gone before
            handshake_failed(client_address[0], error)
            request.close()
            return
        super().process_request_thread(request, client_address)

    def _remember(self, connection: socket.socket, address: Any, overdue: float) -> None:
        self._silent[connection] = overdue
        self._selector.register(connection, selectors.EVENT_READ, address)

    def _forget(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        self._silent.pop(connection, None)

    def _close_oldest(self) -> None:
        if self._silent:
            oldest = next(iter(self._silent))
            self._forget(oldest)
            oldest.close()

    def _close_overdue(self) -> None:
        now = time.monotonic()
        while self._silent and next(iter(self._silent.values())) < now:
            self._close_oldest()


def configure_acceptor(association: Any, server: Listener, address: Any) -> None:
    """Give an association what `RequestHandler` gives those of pynetdicom's reactor."""
    association._server = server
    # By this prefix pynetdicom finds the associations of a server among all threads.
    association.name = f"AcceptorThread@{datetime.now(UTC):%Y%m%d%H%M%S}"
    association.requestor.address_info = AddressInformation.from_tuple(address)
    # Shared, as the contexts are: nobody binds handlers to one association.
    association._handlers = server._handlers
