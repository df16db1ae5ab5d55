"""The way to a destination by C-STORE, C-FIND and storage commitment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import structlog
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS
from sqlalchemy.exc import SQLAlchemyError

from db.errors import DatabaseError

from .channel import Answer, Channel, Holds, Parcel, Session
from .commitment import COMMITMENT_CONTEXTS, request_commitment
from .commitment_data import STORAGE_COMMITMENT, CommitmentAnswer, read_answer
from .errors import CommitmentError
from .find import finder
from .requestor import Context, Peer, association, is_stored, store, store_request

_LOG = structlog.get_logger()
_SOP_CLASS_NOT_SUPPORTED = 0x0122
_DUPLICATE_INSTANCE = 0x0111
_PROCESSING_FAILURE = 0x0110
_LISTEN_SECONDS = 0.02

OnAnswer = Callable[[CommitmentAnswer], object]


class DicomChannel(Channel):
    """A destination that is reached by DICOM associations.

    Parameters
    ----------
    peer : Peer
    on_answer : callable
        Takes answers to storage commitment that come on the association that asked.
    """

    def __init__(self, peer: Peer, on_answer: OnAnswer) -> None:
        self._peer = peer
        self._on_answer = on_answer

    @contextmanager
    def open(self, contexts: Sequence[Context], *, commitment: bool) -> Iterator[Session]:
        """Open an association; see `Channel.open`."""
        proposed = [*sorted(set(contexts)), *(COMMITMENT_CONTEXTS if commitment else ())]
        handlers: list[evt.EventHandlerType] = []
        if commitment:
            handlers = [(evt.EVT_N_EVENT_REPORT, self._reported)]
        with association(self._peer, proposed, handlers) as opened:
            yield _DicomSession(self._peer, opened)

    def query(self) -> AbstractContextManager[Holds]:
        """Open an association for C-FIND; see `Channel.query`."""
        return finder(self._peer)

    def _reported(self, event: evt.Event) -> tuple[int, None]:
        """Take an N-EVENT-REPORT; its status says that the answer is durable."""
        said = getattr(event.request, "EventInformation", None)
        try:
            self._on_answer(
                read_answer(said.getvalue() if said else b"", str(event.context.transfer_syntax))
            )
        except CommitmentError as error:
            return error.status, None
        except (SQLAlchemyError, DatabaseError) as error:
            # The text of a database error may quote values.
            _LOG.error("commitment.answer_lost", error=type(error).__name__)
            return _PROCESSING_FAILURE, None
        return 0, None


class _DicomSession(Session):
    def __init__(self, peer: Peer, opened: Association) -> None:
        self._peer = peer
        self._opened = opened
        self._n_stored = 0
        self._accepted = {
            Context(str(one.abstract_syntax), str(one.transfer_syntax[0])): one.context_id
            for one in opened.accepted_contexts
        }

    @property
    def commits(self) -> bool:
        return any(one.abstract_syntax == STORAGE_COMMITMENT for one in self._accepted)

    def accepts(self, context: Context) -> bool:
        return context in self._accepted

    def store(self, parcel: Parcel) -> Answer:
        if (context_id := self._accepted.get(parcel.context)) is None:
            return Answer(None, False, True, f"{self._peer} does not accept {parcel.context}")
        self._n_stored += 1
        request = store_request(parcel, self._n_stored)
        status = store(self._opened, request, context_id, self._peer.timeout)
        code = f"0x{status:04X}"
        # What bears its UID there are the same bytes: they never change.
        if is_stored(status) or status == _DUPLICATE_INSTANCE:
            return Answer(code, True)
        meaning = STORAGE_SERVICE_CLASS_STATUS.get(status, ("", ""))[1]
        reason = f"the destination refused the object with {code}" + (
            f", {meaning.lower()}" if meaning else ""
        )
        # 0xA9xx: the data set does not match the SOP class (PS3.4 Table B.2-1).
        is_wrong_class = status == _SOP_CLASS_NOT_SUPPORTED or status >> 8 == 0xA9
        return Answer(code, False, is_wrong_class, reason)

    def ask_commitment(self, transaction_uid: str, sop_class_uid: str, instance: str) -> None:
        request_commitment(
            self._opened, transaction_uid, sop_class_uid, instance, self._peer.timeout
        )

    def listen(self, seconds: float, is_over: Callable[[], bool]) -> None:
        # Meanwhile nothing crosses the association, which is no reason to abort it.
        self._opened.network_timeout = seconds + self._peer.timeout
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._opened.is_established and not is_over():
            time.sleep(_LISTEN_SECONDS)
