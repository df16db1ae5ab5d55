"""From a request of an association to where its data set goes; of C-STORE all are counted."""

from __future__ import annotations

import time

from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContextTuple

from db.ingest import Added

from .commitment_data import STORAGE_COMMITMENT
from .commitment_scp import Asker, NoticeReception, StorageCommitment
from .ledger import Ledger, OpenAssociation
from .observe import Observer
from .receive import Receiver, Reception, StoreRequest
from .status import StoreStatus
from .stock_reports import StockReports
from .transport import Reports, StreamingAssociation
from .transport.command import Command, Notice, Outcome


class StorageService:
    """Begins receptions; the same for both transports.

    Parameters
    ----------
    receiver : Receiver
    ledger : Ledger
        Knows the associations that are open.
    observer : Observer
    commitment : StorageCommitment, optional
        Without one this service is not performed.
    """

    def __init__(
        self,
        receiver: Receiver,
        ledger: Ledger,
        observer: Observer,
        commitment: StorageCommitment | None = None,
    ) -> None:
        self._commitment = commitment
        self._receiver = receiver
        self._ledger = ledger
        self._observer = observer

    def begin(
        self, association: Association, command: Command, transfer_syntax_uid: str
    ) -> CountedReception | NoReception:
        """Return where the data set of a request goes."""
        entry = self._ledger.of(association)
        if entry is None:  # its thread was taken for dead
            return NoReception()
        request = StoreRequest(
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            association_id=entry.record.id,
            calling_ae=entry.record.calling_ae,
        )
        return CountedReception(self._receiver.begin(request), entry, self._observer)

    def begin_notice(
        self, association: Association, context: PresentationContextTuple, request: Notice
    ) -> NoticeReception | None:
        """Return where the data set of N-ACTION or N-EVENT-REPORT goes; None if it is unknown."""
        entry = self._ledger.of(association)
        if (
            self._commitment is None
            or entry is None
            or context.abstract_syntax != STORAGE_COMMITMENT
        ):
            return None
        asker = Asker(
            record=entry.record,
            context_id=context.context_id,
            transfer_syntax_uid=str(context.transfer_syntax),
            sender=lambda: _sender_of(association, entry),
        )
        return self._commitment.begin(asker, request)


def _sender_of(association: Association, entry: OpenAssociation) -> Reports | StockReports:
    if isinstance(association, StreamingAssociation):
        return association.reports()
    if entry.stock_reports is None:
        entry.stock_reports = StockReports(association)
    return entry.stock_reports


class CountedReception:
    """A reception whose outcome goes to the ledger and to the observer."""

    def __init__(self, reception: Reception, entry: OpenAssociation, observer: Observer) -> None:
        self._reception = reception
        self._entry = entry
        self._observer = observer
        self._began = time.perf_counter()
        self.write = reception.write
        self.flush = reception.flush
        self.discard = reception.discard

    def finish(self) -> Outcome:
        """Keep the instance; return what to answer."""
        outcome = self._reception.finish()
        added, n_bytes = self._reception.added, self._reception.n_bytes
        self._entry.count(n_bytes, outcome.status, duplicate=added == Added.EQUAL)
        if added is None:
            self._observer.refused(outcome.status)
        else:
            self._observer.stored(str(added), n_bytes, time.perf_counter() - self._began)
        return outcome


class NoReception:
    """Refuses whatever comes."""

    def write(self, data: memoryview) -> None:
        """Drop it."""

    def flush(self) -> bool:
        """Have nothing to let go of."""
        return False

    def discard(self) -> None:
        """Have nothing to forget."""

    def finish(self) -> Outcome:
        """Return a failure."""
        return Outcome(int(StoreStatus.PROCESSING_FAILURE), "Association is not known")
