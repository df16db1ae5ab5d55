"""The storage service: from a C-STORE request of an association to a reception that is counted."""

from __future__ import annotations

import time

from pynetdicom.association import Association

from db.ingest import Added

from .ledger import Ledger, OpenAssociation
from .observe import Observer
from .receive import Receiver, Reception, StoreRequest
from .status import StoreStatus
from .transport.command import Command, Outcome


class StorageService:
    """Begins receptions; the same for both transports.

    Parameters
    ----------
    receiver : Receiver
    ledger : Ledger
        Knows the associations that are open.
    observer : Observer
    """

    def __init__(self, receiver: Receiver, ledger: Ledger, observer: Observer) -> None:
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
