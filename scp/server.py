"""The storage SCP: listens, decides over associations and hands each C-STORE to the receiver."""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
import uuid
from collections import OrderedDict
from contextlib import suppress
from fnmatch import fnmatchcase
from io import BytesIO
from socketserver import BaseServer
from typing import Any, cast

import sqlalchemy as sa
import structlog
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_P_ABORT
from pynetdicom.transport import ThreadedAssociationServer

from db.files import FileStore
from db.ingest import Ingest
from db.schema import AssociationEnd

from .ae import acceptor, supported_contexts
from .deadline import deadline, start_timer
from .errors import ServerError
from .ledger import Ledger
from .receive import DiskWatermark, Receiver, StoreRequest
from .settings import ScpSettings
from .status import StoreStatus

_LOG = structlog.get_logger()
# A-ASSOCIATE-RJ as result, source, reason (PS3.8 Section 9.3.4).
_CALLING_AE_UNKNOWN = (1, 1, 3)
_TEMPORARY_CONGESTION = (2, 3, 1)
_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
# Of the 1024 descriptors that pynetdicom's select() knows, silent peers may have so many.
_MAX_SILENT = 256
_SWEEP_SECONDS = 1.0
_ABORT_SECONDS = 2.0


class _Server(ThreadedAssociationServer):
    """pynetdicom's server with a longer queue of connections and without Nagle's algorithm.

    A connection becomes an association when its first byte arrives: on those that stay silent, of
    port scanners and health checks, pynetdicom would spend an association until `acse_timeout`.
    """

    request_queue_size = 128

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Connections that have said nothing yet, oldest first; its operations are atomic.
        self._silent: OrderedDict[socket.socket, None] = OrderedDict()
        super().__init__(*args, **kwargs)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        # Responses are small: with Nagle's algorithm each would wait for the peer's delayed ACK.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # pynetdicom reads a PDU to its end without a time-out: a peer gone inside one would hold
        # its thread for ever. The kernel keeps this one; Python's would double the system calls.
        seconds = float(self.ae.network_timeout or 0)
        interval = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, direction, interval)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        self._silent[request] = None
        if len(self._silent) > _MAX_SILENT:
            with suppress(OSError):  # it is already down
                self._silent.popitem(last=False)[0].shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        speaks = False
        with suppress(OSError):  # nothing within acse_timeout, or reset
            request.settimeout(self.ae.acse_timeout)
            speaks = bool(request.recv(1, socket.MSG_PEEK))
            request.settimeout(None)
        self._silent.pop(request, None)
        if speaks:
            super().process_request_thread(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown(self) -> None:
        # pynetdicom's also removes the server from a list that start_server fills.
        BaseServer.shutdown(self)
        for connection in list(self._silent):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class StorageServer:
    """The SCP of the node: C-ECHO and C-STORE.

    Parameters
    ----------
    settings : ScpSettings
    files, ingest, engine
        Where bytes, rows and the ledger go.
    acceptor_id : str
        Names this acceptor in the ledger, the same after each restart.
    """

    def __init__(
        self,
        settings: ScpSettings,
        files: FileStore,
        ingest: Ingest,
        engine: sa.Engine,
        acceptor_id: str,
    ) -> None:
        self._settings = settings
        self._disk = DiskWatermark(files, settings.min_free_disk_mb << 20)
        self._receiver = Receiver(files, ingest, self._disk)
        self._ledger = Ledger(engine, acceptor_id)
        self._server: _Server | None = None
        self._threads: tuple[threading.Thread, ...] = ()
        self._stopping = threading.Event()
        self._admitting = threading.Lock()
        self._admitted: set[Association] = set()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None, "the server is not started"
        return int(self._server.server_address[1])

    @property
    def n_open(self) -> int:
        """Associations that are open now."""
        return sum(association.is_alive() for association in list(self._admitted))

    def start(self) -> None:
        """Listen and return.

        Raises
        ------
        ServerError
            If the port cannot be had; names the setting.
        """
        entity = acceptor(self._settings)
        try:
            server = entity.make_server(
                (self._settings.host, self._settings.port),
                contexts=supported_contexts(),
                evt_handlers=self._handlers(),
                server_class=_Server,
            )
        except (OSError, OverflowError) as error:
            raise ServerError(_why_not(self._settings, error)) from error
        self._server = cast(_Server, server)
        self._ledger.close_lost()
        self._stopping.clear()
        serve = threading.Thread(
            target=server.serve_forever, args=(0.1,), name="scp-listen", daemon=True
        )
        sweep = threading.Thread(target=self._sweep, name="scp-sweep", daemon=True)
        self._threads = (serve, sweep)
        for thread in self._threads:
            thread.start()
        _LOG.info("scp.started", ae_title=self._settings.ae_title, port=self.port)

    def stop(self) -> None:
        """Accept nothing more, let open associations finish within bounds, then abort them."""
        if self._server is None:
            return
        self._stopping.set()
        self._server.shutdown()
        patience = time.monotonic() + self._settings.shutdown_seconds
        while self.n_open and time.monotonic() < patience:
            time.sleep(0.02)
        for association in self._server.active_associations:
            if association not in self._admitted:  # not requested yet: there is nothing to abort
                start_timer(association, 0)
                continue
            with deadline(association, _ABORT_SECONDS):
                association.abort()
        for thread in self._threads:
            thread.join(timeout=5)
        self._ledger.sweep()
        self._server = None
        _LOG.info("scp.stopped")

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ACSE_RECV, self._acse_received),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_ABORTED, self._aborted),
        ]

    def _requested(self, event: evt.Event) -> None:
        """Reject what must not come in, before pynetdicom negotiates."""
        request = cast(A_ASSOCIATE, event.assoc.requestor.primitive)
        calling_ae = str(request.calling_ae_title).strip()
        if not self._allows(calling_ae):
            reason, rejection = "calling AE title not in calling_ae_allow", _CALLING_AE_UNKNOWN
        elif self._stopping.is_set():
            reason, rejection = "shutting down", _TEMPORARY_CONGESTION
        elif not self._disk.has_room():
            reason, rejection = "less than min_free_disk_mb free", _TEMPORARY_CONGESTION
        elif not self._admit(event.assoc):
            reason, rejection = "max_associations are open", _LOCAL_LIMIT_EXCEEDED
        else:
            return
        _LOG.warning(
            "association.rejected",
            calling_ae=calling_ae,
            peer_host=event.assoc.requestor.address,
            reason=reason,
        )
        event.assoc.acse.send_reject(*rejection)
        event.assoc.kill()

    def _allows(self, calling_ae: str) -> bool:
        allowed = self._settings.calling_ae_allow
        return not allowed or any(fnmatchcase(calling_ae, pattern) for pattern in allowed)

    def _admit(self, association: Association) -> bool:
        with self._admitting:
            self._admitted = {one for one in self._admitted if one.is_alive()}
            # A peer may ask again before the thread of the association that it ended is through.
            n_open = sum(not (one.is_released or one.is_aborted) for one in self._admitted)
            if n_open < self._settings.max_associations:
                self._admitted.add(association)
            return association in self._admitted

    def _established(self, event: evt.Event) -> None:
        request = cast(A_ASSOCIATE, event.assoc.requestor.primitive)
        peer = event.assoc.requestor
        self._ledger.open(
            event.assoc,
            uuid.uuid4().hex,
            (str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()),
            (peer.address, peer.port),
        )

    def _store(self, event: evt.Event) -> int | Dataset:
        entry = self._ledger.of(event.assoc)
        if entry is None:  # its thread was taken for dead, or the ledger failed at the start
            return int(StoreStatus.PROCESSING_FAILURE)
        request = cast(C_STORE, event.request)
        with (request.DataSet or BytesIO()).getbuffer() as data_set:
            status = self._receiver.receive(
                StoreRequest(
                    sop_class_uid=str(request.AffectedSOPClassUID),
                    sop_instance_uid=str(request.AffectedSOPInstanceUID),
                    transfer_syntax_uid=str(event.context.transfer_syntax),
                    data_set=data_set,
                    association_id=entry.record.id,
                    calling_ae=entry.record.calling_ae,
                )
            )
            entry.count(len(data_set), stored=status == StoreStatus.SUCCESS)
        return status

    def _acse_received(self, event: evt.Event) -> None:
        entry = self._ledger.of(event.assoc)
        if entry is not None and isinstance(getattr(event, "primitive", None), A_P_ABORT):
            entry.provider_aborted = True

    def _released(self, event: evt.Event) -> None:
        self._ledger.close(event.assoc, AssociationEnd.RELEASED)

    def _aborted(self, event: evt.Event) -> None:
        """Tell an abort that a user asked for from a connection that broke (A-P-ABORT)."""
        entry = self._ledger.of(event.assoc)
        lost = entry is not None and entry.provider_aborted
        self._ledger.close(event.assoc, AssociationEnd.LOST if lost else AssociationEnd.ABORTED)

    def _sweep(self) -> None:
        while not self._stopping.wait(_SWEEP_SECONDS):
            self._ledger.sweep()


def _why_not(settings: ScpSettings, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return (
            f"port {settings.port} on {settings.host} is in use: stop the other program or set "
            "another scp.port"
        )
    if isinstance(error, PermissionError):
        return f"port {settings.port} needs privileges: set scp.port to one above 1023"
    return f"cannot listen on {settings.host}:{settings.port} (scp.host, scp.port): {error}"
