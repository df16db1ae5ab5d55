"""Associations that this node opens: connect, send bytes as they are, release.

pynetdicom's own `send_c_store` decodes and encodes the data set again, or takes the UIDs of the
command from the file meta information, which many files have wrong. Here the command is built from
the data set and the bytes go out untouched.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol, TypeVar

from pydicom.uid import UID
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.status import code_to_category

from .ae import requestor
from .checkpoint import checkpoint_of
from .deadline import deadline, start_timer
from .errors import AssociationError, Part10Error, RefusedError, ScpError, UnreachableError

# Presentation context identifiers are the odd numbers below 256 (PS3.8 Section 9.3.2.2).
MAX_CONTEXTS = 128
_ABORT_SECONDS = 2.0


@dataclass(frozen=True, slots=True, order=True)
class Context:
    """A pair of abstract syntax and transfer syntax that an association needs."""

    abstract_syntax: str
    transfer_syntax: str

    def __str__(self) -> str:
        return f"{UID(self.abstract_syntax).name} in {UID(self.transfer_syntax).name}"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is called, by whom, and how many seconds each exchange may take."""

    host: str
    port: int
    called_ae: str
    calling_ae: str
    timeout: float = 60.0

    def __str__(self) -> str:
        return f"{self.called_ae} at {self.host}:{self.port}"


class Storable(Protocol):
    """An instance that can be sent."""

    @property
    def context(self) -> Context:
        """Its SOP class, and the transfer syntax that its bytes are in."""

    @property
    def sop_instance_uid(self) -> str:
        """Its SOP Instance UID."""

    def data_set(self) -> bytes:
        """Return the encoded data set; OSError if it cannot be read."""


_S = TypeVar("_S", bound=Storable)


@contextmanager
def association(
    peer: Peer,
    contexts: Sequence[Context],
    handlers: Sequence[evt.EventHandlerType] = (),
    *,
    provider_of: Sequence[str] = (),
) -> Iterator[Association]:
    """Open an association; release it at the end, abort it if the block fails.

    Parameters
    ----------
    peer : Peer
    contexts : sequence of Context
        What is proposed.
    handlers : sequence
        pynetdicom's pairs of event and handler, for what the peer asks meanwhile.
    provider_of : sequence of str
        SOP classes of which this node is the provider although it opens the association: the role
        is proposed (PS3.7 Section D.3.3.4).

    Raises
    ------
    UnreachableError
        If the peer cannot be reached, rejects or does not answer in time.
    RefusedError
        If it accepts none of the contexts.
    """
    opened = _open(peer, contexts, handlers, provider_of)
    try:
        yield opened
    except BaseException:
        with deadline(opened, _ABORT_SECONDS):
            opened.abort()
        raise
    # pynetdicom's own release waits for ever if the peer ends the association at that moment.
    with suppress(UnreachableError), deadline(opened, peer.timeout), exclusive(opened):
        opened.acse.negotiate_release()


def _open(
    peer: Peer,
    contexts: Sequence[Context],
    handlers: Sequence[evt.EventHandlerType],
    provider_of: Sequence[str],
) -> Association:
    timers: list[threading.Timer] = []
    rejections: list[A_ASSOCIATE] = []

    def received(event: evt.Event) -> None:
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            rejections.append(event.pdu.to_primitive())

    def connected(event: evt.Event) -> None:
        timers.append(start_timer(event.assoc, peer.timeout))
        transport = event.assoc.dul.socket
        if transport is not None and transport.socket is not None:
            transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    try:
        opened = requestor(peer.calling_ae, peer.timeout).associate(
            peer.host,
            peer.port,
            contexts=[build_context(one.abstract_syntax, one.transfer_syntax) for one in contexts],
            ae_title=peer.called_ae,
            ext_neg=[build_role(uid, scp_role=True) for uid in provider_of],
            evt_handlers=[
                (evt.EVT_CONN_OPEN, connected),
                (evt.EVT_PDU_RECV, received),
                *handlers,
            ],
        )
    except (OSError, ValueError) as error:
        raise UnreachableError(f"{peer}: {error}") from error
    finally:
        for timer in timers:
            timer.cancel()
    if not opened.is_established:
        raise _why_not(peer, opened, rejections, connected=bool(timers))
    opened.unbind(evt.EVT_PDU_RECV, received)
    return opened


def _why_not(
    peer: Peer, refused: Association, rejections: Sequence[A_ASSOCIATE], *, connected: bool
) -> AssociationError:
    if not connected:
        return UnreachableError(f"{peer}: cannot connect")
    # pynetdicom takes a rejection that is faster than its own thread for a failure to connect.
    if rejections:
        answer = rejections[0]
        return UnreachableError(
            f"{peer}: association rejected: {answer.reason_str} ({answer.result_str.lower()})"
        )
    if refused.acceptor.primitive is None:
        return UnreachableError(f"{peer}: association not answered")
    return RefusedError(f"{peer}: accepts none of the presentation contexts")


def store_each(peer: Peer, instances: Sequence[_S]) -> Iterator[tuple[_S, int | ScpError]]:
    """Send instances in one association; yield the status that the peer answered for each.

    For an instance that cannot be sent the reason comes instead of a status. When the peer breaks
    the association over an instance, that is the last one: the caller sees which are left.

    Raises
    ------
    AssociationError
        If no association can be opened; nothing was sent.
    """
    contexts = sorted({instance.context for instance in instances})
    assert len(contexts) <= MAX_CONTEXTS, "more contexts than one association holds"
    with association(peer, contexts) as opened:
        accepted = {
            Context(str(one.abstract_syntax), str(one.transfer_syntax[0])): one.context_id
            for one in opened.accepted_contexts
        }
        for number, instance in enumerate(instances):
            context_id = accepted.get(instance.context)
            if context_id is None:
                yield instance, AssociationError(f"{peer} does not accept {instance.context}")
                continue
            try:
                request = store_request(instance, number % 0xFFFF + 1)
            except OSError as error:
                yield instance, Part10Error(f"cannot be read: {error.strerror}")
                continue
            try:
                status = store(opened, request, context_id, peer.timeout)
            except AssociationError as error:
                yield instance, error
                return
            yield instance, status


def store_request(instance: Storable, message_id: int) -> C_STORE:
    """Return the C-STORE request for an instance; OSError if it cannot be read."""
    request = C_STORE()
    request.MessageID = message_id
    request.AffectedSOPClassUID = UID(instance.context.abstract_syntax)
    request.AffectedSOPInstanceUID = UID(instance.sop_instance_uid)
    request.Priority = 0  # medium
    request.DataSet = BytesIO(instance.data_set())
    return request


def store(opened: Association, request: C_STORE, context_id: int, seconds: float) -> int:
    """Send one C-STORE and return the status of the response (PS3.7 Section 9.1.1).

    Raises
    ------
    UnreachableError
        If no response came.
    """
    with deadline(opened, seconds), exclusive(opened):
        opened.dimse.send_msg(request, context_id)
        _, response = opened.dimse.get_msg(block=True)
    status = getattr(response, "Status", None)
    if status is None:
        raise UnreachableError(
            "the association broke before the C-STORE was answered", has_begun=True
        )
    return int(status)


@contextmanager
def exclusive(opened: Association) -> Iterator[None]:
    """Keep the association's own thread from taking the response, surer than pynetdicom does.

    Raises
    ------
    UnreachableError
        If the association is no longer open.
    """
    checkpoint = checkpoint_of(opened)
    checkpoint.clear()
    try:
        if not opened.is_established:
            raise UnreachableError("the association is no longer open", has_begun=True)
        yield
    finally:
        checkpoint.set()


def is_stored(status: int) -> bool:
    """Tell whether a status says that the instance was stored: success, or with a warning."""
    return code_to_category(status) in ("Success", "Warning")
