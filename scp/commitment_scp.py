"""Storage commitment as provider, in a process that receives (PS3.4 Annex J).

A request is durable before it is answered. Its report is made by one thread of the process, which
reads the files, and goes out on the association that asked as long as that is open. Where it ends
before, or its sender goes on storing for long, the request is let go: `scp.commitment_report` sends
the report on an association of its own, and so it does with what a killed process leaves.

The reports of others, about what this node asked of them, are taken here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa
import structlog

from db import commitments_asked
from db.associations import AssociationRecord

from .commitment_data import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    REQUEST_COMMITMENT,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    read_answer,
    read_request,
)
from .errors import CommitmentError
from .observe import Observer
from .transport.command import N_ACTION_RQ, Notice, Outcome
from .transport.reports import EventReport

_LOG = structlog.get_logger()
# A reference takes some 130 bytes: thirty thousand of them.
_MOST_BYTES = 4 << 20
LEASE = timedelta(seconds=20)
_SUCCESS = Outcome(0x0000)

# Given a connection in a transaction, Transaction UID, SOP Instance UIDs committed, Failure Reason
# by SOP Instance UID, and the time; returns whether this node knows the transaction.
OnAnswer = Callable[[sa.Connection, str, Collection[str], Mapping[str, int], datetime], bool]


class ReportSender(Protocol):
    """What sends reports in one association; see `scp.transport.reports.Reports`."""

    @property
    def is_over(self) -> bool:
        """Whether the association has ended."""

    def put(self, report: EventReport) -> bool:
        """Have a report sent; False if the association has ended."""

    def withdraw(self, report: EventReport) -> bool:
        """Take back a report that was not sent yet; False if it was."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenRequest:
    """A request whose association may still be open.

    Attributes
    ----------
    id : int
        Of its row.
    """

    id: int
    transaction_uid: str
    instances: tuple[tuple[str, str], ...]
    calling_ae: str
    trace_id: str
    received_at: datetime
    sender: ReportSender
    context_id: int
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Asker:
    """The association that a message of storage commitment came in."""

    record: AssociationRecord
    context_id: int
    transfer_syntax_uid: str
    sender: Callable[[], ReportSender]


class NoticeReception:
    """The data set of N-ACTION or N-EVENT-REPORT: small, and in memory.

    Parameters
    ----------
    take : callable
        Given the data set, returns what to answer.
    """

    def __init__(self, take: Callable[[bytes], Outcome]) -> None:
        self._take = take
        self._data = bytearray()
        self._is_too_long = False

    def write(self, data: memoryview) -> None:
        """Take the next bytes."""
        if len(self._data) + len(data) > _MOST_BYTES:
            self._is_too_long = True
            self._data.clear()
        if not self._is_too_long:
            self._data += data

    def flush(self) -> bool:
        """Have nothing to let go of: bytes are copied."""
        return False

    def discard(self) -> None:
        """Forget what came."""
        self._data.clear()

    def finish(self) -> Outcome:
        """Do what was asked; return what to answer."""
        if self._is_too_long:
            return Outcome(0x0213, f"Data set of more than {_MOST_BYTES >> 20} MiB")
        try:
            return self._take(bytes(self._data))
        except CommitmentError as error:
            _LOG.warning("commitment.not_taken", status=f"0x{error.status:04X}", reason=str(error))
            return Outcome(error.status, str(error)[:64])
        except sa.exc.SQLAlchemyError as error:
            _LOG.error("commitment.not_kept", error=type(error).__name__)
            return Outcome(0x0213, "Database not available, ask again later")
        except Exception as error:  # noqa: BLE001 - thread boundary: the peer gets an answer
            _LOG.error("commitment.failed", error=type(error).__name__, exc_info=True)
            return Outcome(0x0110, "Internal error, see the log of the node")


class StorageCommitment:
    """Takes the messages of storage commitment; the same for both transports.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        With short waits: an association waits meanwhile.
    opened : callable
        Given each request that was entered.
    on_answer : callable, optional
        Enters what another node answered; without one such answers are refused.
    clock : callable
        Returns the time as aware UTC.
    observer : Observer, optional
        Hears of requests, for metrics.
    """

    def __init__(
        self,
        engine: sa.Engine,
        opened: Callable[[OpenRequest], None],
        on_answer: OnAnswer | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer or Observer()
        self._engine = engine
        self._opened = opened
        self._on_answer = on_answer
        self._clock = clock

    def begin(self, asker: Asker, request: Notice) -> NoticeReception:
        """Return where the data set of N-ACTION or N-EVENT-REPORT goes; never raises."""

        def take(data: bytes) -> Outcome:
            _require_service(request)
            if request.field == N_ACTION_RQ:
                return self._asked(asker, data)
            return self._answered(asker, data)

        return NoticeReception(take)

    def _asked(self, asker: Asker, data: bytes) -> Outcome:
        asked = read_request(data, asker.transfer_syntax_uid)
        record, now = asker.record, self._clock()
        with self._engine.begin() as connection:
            asked_id = commitments_asked.record_request(
                connection,
                transaction_uid=asked.transaction_uid,
                calling_ae=record.calling_ae,
                called_ae=record.called_ae,
                association_id=record.id,
                instances=asked.instances,
                now=now,
                leased_until=now + LEASE,
            )
        if asked_id is None:
            # Of the statuses of N-ACTION the one that says it; 0x0131 is a Failure Reason, and a
            # report with it would be taken for that of the transaction in use.
            raise CommitmentError("Transaction UID is in use for other instances", 0x0115)
        _LOG.info("commitment.asked", trace=record.id, calling_ae=record.calling_ae,
                  transaction=asked.transaction_uid, n_instances=len(asked.instances))  # fmt: skip
        self._observer.commitment_asked()
        self._opened(
            OpenRequest(
                id=asked_id,
                transaction_uid=asked.transaction_uid,
                instances=asked.instances,
                calling_ae=record.calling_ae,
                trace_id=record.id,
                received_at=now,
                sender=asker.sender(),
                context_id=asker.context_id,
                transfer_syntax_uid=asker.transfer_syntax_uid,
            )
        )
        return _SUCCESS

    def _answered(self, asker: Asker, data: bytes) -> Outcome:
        answer = read_answer(data, asker.transfer_syntax_uid)
        if self._on_answer is None:
            raise CommitmentError("this node asks for no storage commitment", 0x0110)
        with self._engine.begin() as connection:
            is_known = self._on_answer(
                connection, answer.transaction_uid, answer.committed, answer.failed, self._clock()
            )
        _LOG.info("commitment.answer_taken", trace=asker.record.id,
                  transaction=answer.transaction_uid, known=is_known,
                  n_committed=len(answer.committed), n_failed=len(answer.failed))  # fmt: skip
        if not is_known:
            # Not success: nothing was done with it, and the row of the request may be committed
            # after a fast peer has answered. A peer that repeats its report is then understood.
            raise CommitmentError("Transaction UID is not known here", 0x0115)
        return _SUCCESS


def _require_service(request: Notice) -> None:
    """Require what PS3.4 Annex J knows; the statuses are those of PS3.7 Annex C."""
    is_action = request.field == N_ACTION_RQ
    if request.sop_class_uid != STORAGE_COMMITMENT:
        raise CommitmentError("SOP Class is not that of the presentation context", 0x0118)
    if request.sop_instance_uid != STORAGE_COMMITMENT_INSTANCE:
        raise CommitmentError("not the well-known instance of Storage Commitment", 0x0112)
    known: Any = (REQUEST_COMMITMENT,) if is_action else (ALL_COMMITTED, FAILURES_EXIST)
    if request.type_id not in known:
        kind, status = ("Action", 0x0123) if is_action else ("Event", 0x0113)
        raise CommitmentError(f"{kind} Type ID {request.type_id} is not known", status)
