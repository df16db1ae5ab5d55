"""A modality that asks for storage commitment, and hears the answer wherever it comes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from held_port import held_port
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association

from scp.checkpoint import checkpoint_of

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
WELL_KNOWN = "1.2.840.10008.1.20.1.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
Instances = Sequence[tuple[str, str]]


class Held(Association):
    """An association on which reports come between requests, as modalities stand it.

    Where pynetdicom's senders go on as soon as this flag is set, `Checkpoint` has waited for its
    reactor. The flag itself may be false for ever: see there.

    A report is answered by a thread of its own: `whole` keeps the fragments of its response and
    those of a request apart.
    """

    _is_paused: Any = property(lambda self: True, lambda self, value: None)
    answered: Callable[[], None]

    def hold(self, answered: Callable[[], None]) -> None:
        """Begin; `answered` is called when the response to a report has been sent."""
        checkpoint_of(self)
        self.answered = answered
        send, whole = self.dimse.send_msg, threading.Lock()

        def send_whole(primitive: Any, context_id: int) -> None:
            with whole:
                send(primitive, context_id)

        self.dimse.send_msg = send_whole  # type: ignore[method-assign]

    def _serve_request(self, msg: Any, context_id: int) -> None:
        super()._serve_request(msg, context_id)
        self.answered()


@dataclass(frozen=True)
class Heard:
    """An N-EVENT-REPORT as it came."""

    event_type: int
    information: Dataset
    same_association: bool
    calling_ae: str
    called_ae: str
    roles: dict[str, tuple[bool, bool]]

    @property
    def transaction(self) -> str:
        return str(self.information.TransactionUID)

    @property
    def committed(self) -> list[str]:
        items = self.information.get("ReferencedSOPSequence", [])
        return [str(one.ReferencedSOPInstanceUID) for one in items]

    @property
    def failed(self) -> dict[str, int]:
        items = self.information.get("FailedSOPSequence", [])
        return {str(one.ReferencedSOPInstanceUID): int(one.FailureReason) for one in items}


@dataclass
class Modality:
    """Stores and asks as an SCU, and may listen."""

    name: str = "CT_ROOM_1"
    status: int = 0x0000
    heard: list[Heard] = field(default_factory=list)
    n_answered: int = 0
    guard: threading.Condition = field(default_factory=threading.Condition)
    server: Any = None
    holder: socket.socket | None = None

    def entity(self) -> AE:
        made = AE(ae_title=self.name)
        made.acse_timeout = made.dimse_timeout = made.network_timeout = 120
        return made

    @contextmanager
    def associated(self, port: int, *, called: str = "PREREAD") -> Iterator[Association]:
        entity = self.entity()
        opened = entity.associate(
            "127.0.0.1",
            port,
            ae_title=called,
            contexts=[
                build_context(STORAGE_COMMITMENT),
                build_context(CT_IMAGE, ExplicitVRLittleEndian),
            ],
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take, [True])],
        )
        assert opened.is_established
        opened.__class__ = Held
        assert isinstance(opened, Held)
        opened.hold(self._answered)
        try:
            yield opened
        finally:
            if opened.is_established:
                opened.release()

    def listen(self, port: int = 0) -> int:
        """Accept associations; return the port, which stays its own when it is closed."""
        if self.holder is None:
            self.holder = held_port(port)
        port = int(self.holder.getsockname()[1])
        entity = self.entity()
        entity.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
        self.server = entity.start_server(
            ("127.0.0.1", port),
            block=False,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take, [False])],
        )
        return port

    def close(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server = None

    def _take(self, event: evt.Event, same_association: bool) -> tuple[int, None]:
        requestor = event.assoc.requestor
        roles = {
            str(uid): (bool(role.scu_role), bool(role.scp_role))
            for uid, role in requestor.role_selection.items()
        }
        primitive = requestor.primitive
        with self.guard:
            self.heard.append(
                Heard(
                    event.request.EventTypeID,
                    event.event_information,
                    same_association,
                    str(primitive.calling_ae_title).strip(),
                    str(primitive.called_ae_title).strip(),
                    roles,
                )
            )
        if not same_association:  # it is told nothing else there: its answer crosses nothing
            self._answered()
        return self.status, None

    def _answered(self) -> None:
        with self.guard:
            self.n_answered += 1
            self.guard.notify_all()

    def wait(self, n: int = 1, seconds: float = 60.0) -> list[Heard]:
        """Wait for so many reports, and until they are answered."""
        with self.guard:
            came = self.guard.wait_for(lambda: self.n_answered >= n, seconds)
        assert came, f"{len(self.heard)} of {n} reports came"
        return self.heard


def information(instances: Instances, transaction: str) -> Dataset:
    """Action Information of a request."""
    asked = Dataset()
    asked.TransactionUID = transaction
    asked.ReferencedSOPSequence = []
    for sop_class, uid in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        asked.ReferencedSOPSequence.append(item)
    return asked


def ask(
    opened: Association,
    instances: Instances,
    transaction: str | None = None,
    *,
    action: int = 1,
    sop_class: str = STORAGE_COMMITMENT,
    well_known: str = WELL_KNOWN,
    change: Callable[[Dataset], None] = lambda _asked: None,
) -> int:
    """Send N-ACTION; return the status."""
    asked = information(instances, transaction or generate_uid())
    change(asked)
    status, _ = opened.send_n_action(
        asked, action, sop_class, well_known, meta_uid=STORAGE_COMMITMENT
    )
    assert "Status" in status, "the association broke"
    return int(status.Status)
