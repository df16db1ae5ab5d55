"""N-EVENT-REPORT requests in an association of pynetdicom's own reactor."""

from __future__ import annotations

import threading
import time

import structlog
from pynetdicom.association import Association

from .event_report import send_event_report
from .transport.reports import EventReport

_LOG = structlog.get_logger()
# How long a peer must have said nothing: pynetdicom takes what comes next for the response.
_QUIET_SECONDS = 0.25
_ANSWER_SECONDS = 60.0


class StockReports:
    """Sends the reports of one association, each from a thread of its own; any thread may use it.

    Parameters
    ----------
    association : Association
        Accepted by pynetdicom's own server.
    """

    def __init__(self, association: Association) -> None:
        self._association = association
        self._guard = threading.Lock()
        self._one_at_a_time = threading.Lock()
        self._waiting: list[EventReport] = []
        self._message_id = 0
        self._heard_at = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether the association has ended."""
        return not self._association.is_established

    def heard(self) -> None:
        """Take note of a message of the peer."""
        self._heard_at = time.monotonic()

    def put(self, report: EventReport) -> bool:
        """Have a report sent; False if the association has ended."""
        if self.is_over:
            return False
        with self._guard:
            self._waiting.append(report)
        threading.Thread(target=self._send, args=(report,), name="report", daemon=True).start()
        return True

    def withdraw(self, report: EventReport) -> bool:
        """Take back a report that was not sent yet; False if it was."""
        with self._guard:
            if report not in self._waiting:
                return False
            self._waiting.remove(report)
            return True

    def _send(self, report: EventReport) -> None:
        status: int | None = None
        is_sent = False
        try:
            with self._one_at_a_time:
                self._wait_for_quiet()
                is_sent = self.withdraw(report)
                if is_sent and not self.is_over:
                    self._message_id = self._message_id % 0xFFFF + 1
                    status = send_event_report(
                        self._association, report, self._message_id, _ANSWER_SECONDS
                    )
        except Exception as error:  # noqa: BLE001 - thread boundary: a broken one raises anything
            _LOG.info("commitment.report_failed", error=type(error).__name__)
        if is_sent:
            report.done(status)

    def _wait_for_quiet(self) -> None:
        while not self.is_over:
            rest = self._heard_at + _QUIET_SECONDS - time.monotonic()
            if rest <= 0:
                return
            time.sleep(rest)
