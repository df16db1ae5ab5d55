"""Messages that pynetdicom's own reactor has taken in as a whole: its event handlers."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, cast

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_STORE, N_ACTION, N_EVENT_REPORT

from .ledger import Ledger
from .status import as_data_set
from .store import StorageService
from .transport.command import (
    C_STORE_RQ,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    Command,
    Notice,
    Outcome,
)

_NOT_PERFORMED = Outcome(0x0211)


class StockHandlers:
    """Hands whole messages to the service that takes them in pieces.

    Parameters
    ----------
    store : StorageService
    ledger : Ledger
        Knows the associations that are open.
    """

    def __init__(self, store: StorageService, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    def all(self) -> list[tuple[Any, Callable[[evt.Event], Any]]]:
        """Return the handlers, each with its event."""
        return [
            (evt.EVT_C_STORE, self._stored),
            (evt.EVT_N_ACTION, self._asked),
            (evt.EVT_N_EVENT_REPORT, self._told),
        ]

    def _stored(self, event: evt.Event) -> Dataset:
        request = cast(C_STORE, event.request)
        self._heard(event)
        command = Command(
            C_STORE_RQ,
            int(request.MessageID or 0),
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            has_data_set=True,
        )
        reception = self._store.begin(event.assoc, command, str(event.context.transfer_syntax))
        with (request.DataSet or BytesIO()).getbuffer() as data_set:
            reception.write(data_set)
            outcome = as_data_set(reception.finish())
        self._heard(event)
        return outcome

    def _asked(self, event: evt.Event) -> tuple[Dataset, None]:
        request = cast(N_ACTION, event.request)
        notice = Notice(
            N_ACTION_RQ,
            int(request.MessageID or 0),
            str(request.RequestedSOPClassUID),
            str(request.RequestedSOPInstanceUID),
            has_data_set=request.ActionInformation is not None,
            type_id=int(request.ActionTypeID or 0),
        )
        return self._noticed(event, notice, request.ActionInformation)

    def _told(self, event: evt.Event) -> tuple[Dataset, None]:
        request = cast(N_EVENT_REPORT, event.request)
        notice = Notice(
            N_EVENT_REPORT_RQ,
            int(request.MessageID or 0),
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            has_data_set=request.EventInformation is not None,
            type_id=int(request.EventTypeID or 0),
        )
        return self._noticed(event, notice, request.EventInformation)

    def _noticed(
        self, event: evt.Event, notice: Notice, data: BytesIO | None
    ) -> tuple[Dataset, None]:
        self._heard(event)
        reception = self._store.begin_notice(event.assoc, event.context, notice)
        if reception is None:
            return as_data_set(_NOT_PERFORMED), None
        with (data or BytesIO()).getbuffer() as data_set:
            reception.write(data_set)
            return as_data_set(reception.finish()), None

    def _heard(self, event: evt.Event) -> None:
        """Keep reports of this node from crossing what the peer sends."""
        entry = self._ledger.of(event.assoc)
        if entry is not None and entry.stock_reports is not None:
            entry.stock_reports.heard()
