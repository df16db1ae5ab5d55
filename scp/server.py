"""The SCP: listens, decides over associations and hands what they bring to its service."""

from __future__ import annotations

import errno
import threading
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

import structlog
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_P_ABORT, A_RELEASE
from pynetdicom.presentation import PresentationContext

from db.associations import AssociationRecord, ContextResult
from db.files import FileStore
from db.ingest import Ingest
from db.schema import AssociationEnd

from .admission import Admission, Applicant, RejectionKind
from .ae import acceptor, may_store, supported_contexts
from .commitment_scp import StorageCommitment
from .deadline import deadline, start_timer
from .errors import ServerError
from .ledger import Ledger
from .listen import Listener
from .observe import Observer
from .receive import DiskWatermark, Receiver
from .settings import ScpSettings
from .stock import StockHandlers
from .store import StorageService
from .tls import server_context
from .transport.associate import answer_roles, make_refusable

_LOG = structlog.get_logger()
_SWEEP_SECONDS = 1.0
_ABORT_SECONDS = 2.0
_JOIN_SECONDS = 5.0


class StorageServer:
    """The SCP of the node: C-ECHO, C-STORE and storage commitment.

    Parameters
    ----------
    settings : ScpSettings
    files, ingest
        Where bytes, rows and the ledger go.
    acceptor_id : str
        Names this acceptor in the ledger, the same after each restart.
    observer : Observer
        Hears of what comes, for metrics.
    commitment : StorageCommitment, optional
        Without one its presentation contexts are not accepted.
    reuse_port : bool
        Other acceptors of the node listen on the same port.
    """

    def __init__(
        self,
        settings: ScpSettings,
        files: FileStore,
        ingest: Ingest,
        acceptor_id: str,
        *,
        observer: Observer | None = None,
        commitment: StorageCommitment | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._settings = settings
        self._observer = observer or Observer()
        disk = DiskWatermark(files, settings.min_free_disk_mb << 20)
        self._admission = Admission(settings, disk.has_room)
        self._ledger = Ledger(ingest, acceptor_id)
        self._store = StorageService(
            Receiver(files, ingest, disk), self._ledger, self._observer, commitment
        )
        self._contexts = supported_contexts(storage_commitment=commitment is not None)
        self._acceptor_id = acceptor_id
        self._reuse_port = reuse_port
        self._listener: Listener | None = None
        self._threads: tuple[threading.Thread, ...] = ()
        self._stopping = threading.Event()
        # What was admitted and has not ended; operations on it are atomic.
        self._admitted: dict[Association, None] = {}

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listener is not None, "the server is not started"
        return int(self._listener.server_address[1])

    @property
    def n_open(self) -> int:
        """Associations that are open now."""
        return self._admission.n_open

    def start(self) -> None:
        """Listen and return.

        Raises
        ------
        ServerError
            If the port cannot be had, or TLS cannot be set up; names the setting.
        """
        listener = self._listen()
        self._listener = listener
        self._ledger.close_lost()
        self._stopping.clear()
        serve = threading.Thread(target=listener.serve_forever, name="scp-listen", daemon=True)
        sweep = threading.Thread(target=self._sweep, name="scp-sweep", daemon=True)
        self._threads = (serve, sweep)
        for thread in self._threads:
            thread.start()
        _LOG.info("scp.started", ae_title=self._settings.ae_title, port=self.port)

    def stop(self) -> None:
        """Accept nothing more, let open associations finish within bounds, then abort them."""
        if self._listener is None:
            return
        self._stopping.set()
        self._admission.close()
        self._listener.shutdown()
        patience = time.monotonic() + self._settings.shutdown_seconds
        while self._admitted and time.monotonic() < patience:
            time.sleep(0.02)
        self._abort_all(self._listener.active_associations)
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        self._ledger.sweep()
        self._listener = None
        _LOG.info("scp.stopped")

    def _listen(self) -> Listener:
        settings = self._settings
        tls = server_context(settings)
        is_streaming = settings.transport == "streaming"
        try:
            return Listener(
                acceptor(settings),
                (settings.host, settings.port),
                self._contexts,
                self._handlers(),
                allows_address=self._allows_address,
                most_associations=settings.max_associations,
                store=self._store if is_streaming else None,
                tls=tls,
                reuse_port=self._reuse_port,
            )
        except (OSError, OverflowError) as error:
            raise ServerError(_why_not(settings, error)) from error

    def _abort_all(self, associations: Iterable[Association]) -> None:
        open_now = list(associations)
        for association in open_now:
            if self._ledger.of(association) is None:  # not accepted yet: nothing to abort
                start_timer(association, 0)
            elif self._settings.transport == "streaming":
                association.abort(block=False)
            else:
                with deadline(association, _ABORT_SECONDS):
                    association.abort()
        patience = time.monotonic() + _ABORT_SECONDS
        for association in open_now:
            association.join(max(0.0, patience - time.monotonic()))
            start_timer(association, 0)

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_ACSE_RECV, self._acse_received),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_ABORTED, self._aborted),
            *StockHandlers(self._store, self._ledger).all(),
        ]

    def _allows_address(self, address: str) -> bool:
        allowed = self._admission.allows_address(address)
        if not allowed:
            self._observer.association_rejected(str(RejectionKind.ADDRESS))
        return allowed

    def _requested(self, event: evt.Event) -> None:
        """Reject what must not come in, before pynetdicom negotiates."""
        peer = event.assoc.requestor
        request = cast(A_ASSOCIATE, peer.primitive)
        make_refusable(request.presentation_context_definition_list)
        answer_roles(event.assoc, self._contexts)
        calling_ae, called_ae = _ae_titles(request)
        stores = may_store(request.presentation_context_definition_list)
        rejection = self._admission.decide(
            event.assoc, Applicant(calling_ae, called_ae, peer.address, stores)
        )
        if rejection is None:
            self._admitted[event.assoc] = None
            return
        self._observer.association_rejected(str(rejection.kind))
        self._ledger.rejected(self._record(event.assoc), rejection.why)
        event.assoc.acse.send_reject(rejection.result, rejection.source, rejection.reason)
        event.assoc.kill()

    def _rejected(self, event: evt.Event) -> None:
        """Take note of what pynetdicom rejects itself."""
        self._leave(event.assoc)
        self._ledger.rejected(self._record(event.assoc), "negotiation")

    def _established(self, event: evt.Event) -> None:
        self._ledger.open(event.assoc, self._record(event.assoc))
        self._observer.association_opened()

    def _record(self, association: Association) -> AssociationRecord:
        peer = association.requestor
        calling_ae, called_ae = _ae_titles(cast(A_ASSOCIATE, peer.primitive))
        return AssociationRecord(
            id=uuid.uuid4().hex,
            acceptor=self._acceptor_id,
            calling_ae=calling_ae,
            called_ae=called_ae,
            peer_host=peer.address,
            peer_port=peer.port,
            opened_at=datetime.now(UTC),
            contexts=_contexts(association),
        )

    def _acse_received(self, event: evt.Event) -> None:
        primitive = getattr(event, "primitive", None)
        if isinstance(primitive, A_RELEASE):
            # Before it is answered: a peer that has its answer may open the next one at once, and
            # must not find its own place taken.
            self._admission.leave(event.assoc)
        entry = self._ledger.of(event.assoc)
        if entry is not None and isinstance(primitive, A_P_ABORT):
            entry.provider_aborted = True

    def _released(self, event: evt.Event) -> None:
        self._end(event.assoc, AssociationEnd.RELEASED)

    def _aborted(self, event: evt.Event) -> None:
        """Tell an abort that a user asked for from a connection that broke or fell silent."""
        entry = self._ledger.of(event.assoc)
        broke = entry is not None and entry.provider_aborted
        lost = broke or event.assoc.dul.idle_timer_expired()
        self._end(event.assoc, AssociationEnd.LOST if lost else AssociationEnd.ABORTED)

    def _end(self, association: Association, ended_by: AssociationEnd) -> None:
        self._leave(association)
        if self._ledger.close(association, ended_by):
            self._observer.association_ended(str(ended_by))

    def _leave(self, association: Association) -> None:
        self._admitted.pop(association, None)
        self._admission.leave(association)

    def _sweep(self) -> None:
        """End what has died without a word."""
        while not self._stopping.wait(_SWEEP_SECONDS):
            for association in [one for one in list(self._admitted) if not one.is_alive()]:
                self._end(association, AssociationEnd.LOST)


def _ae_titles(request: A_ASSOCIATE) -> tuple[str, str]:
    """Return who calls, and whom; spaces around AE titles mean nothing (PS3.8 Section 9.3.2)."""
    return str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()


def _contexts(association: Association) -> tuple[ContextResult, ...]:
    """Abstract syntax, accepted transfer syntax and result of each context (PS3.8 9.3.3.2)."""
    negotiated: list[PresentationContext] = [
        *association.accepted_contexts,
        *association.rejected_contexts,
    ]
    return tuple(
        ContextResult(
            str(one.abstract_syntax),
            str(one.transfer_syntax[0]) if one.result == 0 else None,
            int(one.result or 0),
        )
        for one in sorted(negotiated, key=lambda one: int(one.context_id or 0))
    )


def _why_not(settings: ScpSettings, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return (
            f"port {settings.port} on {settings.host} is in use: stop the other program or set "
            "another scp.port"
        )
    if isinstance(error, PermissionError):
        return f"port {settings.port} needs privileges: set scp.port to one above 1023"
    return f"cannot listen on {settings.host}:{settings.port} (scp.host, scp.port): {error}"
