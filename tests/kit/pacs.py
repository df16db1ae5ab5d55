"""A PACS in memory that does what the tests of delivery want it to."""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from held_port import held_port
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.pdu import P_DATA_TF

SR_3D = "1.2.840.10008.5.1.4.1.1.88.34"
SR = "1.2.840.10008.5.1.4.1.1.88.33"
SR_ENHANCED = "1.2.840.10008.5.1.4.1.1.88.22"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


class Pacs:
    """A PACS.

    Attributes
    ----------
    status : int
        What it answers to C-STORE; `by_class` says otherwise for some SOP classes.
    breaks : callable
        Told of each C-STORE with its association and SOP Instance UID, before it is answered.
    shown : bool
        Whether C-FIND finds things.
    answers : callable or None
        Given Transaction UID and instances, returns the failure reason of each that is not kept;
        without one no answer comes.
    action_status : int
        What it answers to N-ACTION; the first `aborts_action` ones it aborts instead.
    reports_first : bool
        Whether the answer comes before the response to the request.
    leaves : bool
        Whether it releases the association soon after it has answered a request.
    report_port : int or None
        Where answers go; without one they come on the same association.
    """

    def __init__(self, classes: tuple[str, ...] = (SR_3D,), commits: bool = True) -> None:
        self.classes, self.commits = classes, commits
        self.stored: dict[str, bytes] = {}
        self.received: list[str] = []
        self.n_associations = 0
        self.proposed: list[set[str]] = []
        self.status = 0
        self.by_class: dict[str, int] = {}
        self.breaks: Callable[[Any, str], None] = lambda association, instance: None
        self.shown = True
        self.n_finds = 0
        self.answers: Callable[[str, list[str]], dict[str, int]] | None = None
        self.asked: list[tuple[str, list[str]]] = []
        self.action_status = 0
        self.aborts_action = 0
        self.reports_first = False
        self.leaves = False
        self.report_port: int | None = None
        self.commits_only_alone = False
        # Objects stored on an association, and reports of what was asked for on it.
        self._traffic: dict[Any, tuple[int, list[tuple[Dataset, bool]]]] = defaultdict(
            lambda: (0, [])
        )
        self.entity = AE(ae_title="PACS")
        # While it is stopped its port is nobody else's.
        holder = held_port()
        weakref.finalize(self, holder.close)
        self.port = int(holder.getsockname()[1])
        self._leaving: set[Any] = set()
        self.server: Any = None
        self.start()

    def start(self) -> None:
        handlers: Any = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_N_ACTION, self._action),
            (evt.EVT_PDU_SENT, self._sent),
        ]
        known = [*self.classes, FIND, *([PUSH_MODEL] if self.commits else [])]
        self.server = self.entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=handlers,
            contexts=[build_context(one, _SYNTAXES) for one in known],
        )

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server = None

    def _requested(self, event: evt.Event) -> None:
        self.n_associations += 1
        proposed = {str(one.abstract_syntax) for one in event.assoc.requestor.requested_contexts}
        self.proposed.append(proposed)
        if self.commits_only_alone and len(proposed) > 1:
            acceptor = event.assoc.acceptor
            acceptor.supported_contexts = [
                one for one in acceptor.supported_contexts if one.abstract_syntax != PUSH_MODEL
            ]

    def _store(self, event: evt.Event) -> int:
        request: Any = event.request
        uid = str(request.AffectedSOPInstanceUID)
        self.received.append(uid)
        self.breaks(event.assoc, uid)
        status = self.by_class.get(str(request.AffectedSOPClassUID), self.status)
        if status in (0, 0xB000):
            self.stored[uid] = request.DataSet.getvalue()
            n_stored, waiting = self._traffic[event.assoc]
            self._traffic[event.assoc] = (n_stored + 1, waiting)
        return status

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        self.n_finds += 1
        if self.shown and event.identifier.SOPInstanceUID in self.stored:
            yield 0xFF00, event.identifier

    def _action(self, event: evt.Event) -> tuple[int, None]:
        if self.aborts_action:
            self.aborts_action -= 1
            event.assoc.abort()
        if self.action_status:
            return self.action_status, None
        information = event.action_information
        items = information.ReferencedSOPSequence
        asked = [str(item.ReferencedSOPInstanceUID) for item in items]
        self.asked.append((str(information.TransactionUID), asked))
        if self.leaves:
            self._leaving.add(event.assoc)
        if self.answers is not None:
            failures = self.answers(str(information.TransactionUID), asked)
            report = report_of(str(information.TransactionUID), items, failures)
            if self.reports_first:
                self._report(event.assoc, report, bool(failures))
            else:
                self._report_later(event.assoc, report, bool(failures))
        return 0, None

    def _sent(self, event: evt.Event) -> None:
        """Leave when the response to the request is out, not instead of it."""
        if isinstance(event.pdu, P_DATA_TF) and event.assoc in self._leaving:
            self._leaving.discard(event.assoc)
            threading.Timer(0.2, event.assoc.release).start()

    def _report_later(self, association: Any, report: Dataset, has_failures: bool) -> None:
        """Report when all that came on the association was asked for.

        pynetdicom would take the next request for the answer to the report.
        """
        n_stored, waiting = self._traffic[association]
        waiting.append((report, has_failures))
        if len(waiting) < n_stored:
            return
        self._traffic[association] = (0, [])

        def send() -> None:
            for one in waiting:
                self._report(association, *one)

        threading.Timer(0.05, send).start()

    def _report(self, association: Any, report: Dataset, has_failures: bool) -> None:
        if self.report_port is None:
            self.send_report(association, report, has_failures)
            return
        association = AE(ae_title="PACS").associate(
            "127.0.0.1",
            self.report_port,
            contexts=[build_context(PUSH_MODEL, ImplicitVRLittleEndian)],
            ext_neg=[build_role(PUSH_MODEL, scp_role=True)],
        )
        self.send_report(association, report, has_failures)
        association.release()

    @staticmethod
    def send_report(association: Any, report: Dataset, has_failures: bool) -> int | None:
        if not association.is_established:
            return None
        status, _ = association.send_n_event_report(
            report, 2 if has_failures else 1, PUSH_MODEL, PUSH_MODEL_INSTANCE
        )
        return status.get("Status")


def report_of(transaction: str, items: Any, failures: dict[str, int]) -> Dataset:
    """Return the Event Information that says which of the items are kept."""
    report = Dataset()
    report.TransactionUID = transaction
    kept, failed = [], []
    for item in items:
        if (reason := failures.get(str(item.ReferencedSOPInstanceUID))) is None:
            kept.append(item)
        else:
            item.FailureReason = reason
            failed.append(item)
    if kept:
        report.ReferencedSOPSequence = kept
    if failed:
        report.FailedSOPSequence = failed
    return report
