"""What the streaming transport relies on inside pynetdicom; its constraint is `<3.1` for this.

When this fails after an upgrade, read the changes of the modules named here before anything else:
`scp/transport` subclasses them.
"""

from __future__ import annotations

import hashlib
import inspect
import socket
from importlib.metadata import version
from threading import Thread
from typing import Any

import pytest
from pynetdicom import AE, acse, association, dul, fsm, transport
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket, ThreadedAssociationServer

from scp.transport import Negotiations, StreamingAssociation

# The source of what is replaced or called, as it was when the transport was written for it.
_RELIED_UPON = {
    "Association.__init__": Association.__init__,
    "Association._abort_blocking": Association._abort_blocking,
    "Association.kill": Association.kill,
    "ServiceUser.__init__": association.ServiceUser.__init__,
    "Association.run_reactor": Association.run_reactor,
    "Association._run_reactor": Association._run_reactor,
    "Association._serve_request": Association._serve_request,
    "DULServiceProvider.__init__": DULServiceProvider.__init__,
    "DULServiceProvider._send": DULServiceProvider._send,
    "DULServiceProvider._decode_pdu": DULServiceProvider._decode_pdu,
    "DULServiceProvider._process_recv_primitive": DULServiceProvider._process_recv_primitive,
    "DULServiceProvider.receive_pdu": DULServiceProvider.receive_pdu,
    "DULServiceProvider.run_reactor": DULServiceProvider.run_reactor,
    "DULServiceProvider.send_pdu": DULServiceProvider.send_pdu,
    "DULServiceProvider.stop_dul": DULServiceProvider.stop_dul,
    "AssociationSocket.close": AssociationSocket.close,
    "AssociationSocket.send": AssociationSocket.send,
    "ThreadedAssociationServer": ThreadedAssociationServer,
    "RequestHandler._create_association": transport.RequestHandler._create_association,
    "ACSE._negotiate_as_acceptor": acse.ACSE._negotiate_as_acceptor,
    "fsm.TRANSITION_TABLE": fsm,
}
_SEEN_IN = "3.0.4"
_DIGEST = "2b2c6e168ba105cc2850a1b538d043d2eda09e4a3eac6bd1b6aac7e229b5ea50"


def _digest() -> str:
    sources = (inspect.getsource(one) for one in _RELIED_UPON.values())
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def test_the_version_is_one_that_the_transport_was_written_for() -> None:
    major, minor, *_ = version("pynetdicom").split(".")

    assert (major, minor) == ("3", "0")


def test_the_source_of_what_is_relied_upon_has_not_changed() -> None:
    if version("pynetdicom") != _SEEN_IN:
        pytest.fail(
            f"pynetdicom {version('pynetdicom')}: compare {', '.join(_RELIED_UPON)} with {_SEEN_IN}"
        )
    assert _digest() == _DIGEST


@pytest.mark.parametrize(
    ("state", "event", "action"),
    [
        ("Sta6", "Evt10", "DT-2"),
        ("Sta6", "Evt12", "AR-2"),
        ("Sta6", "Evt15", "AA-1"),
        ("Sta6", "Evt17", "AA-4"),
        ("Sta6", "Evt19", "AA-8"),
        ("Sta2", "Evt10", "AA-1"),
        ("Sta2", "Evt17", "AA-5"),
        ("Sta13", "Evt17", "AR-5"),
    ],
)
def test_the_state_machine_is_that_of_the_standard(state: str, event: str, action: str) -> None:
    """PS3.8 Table 9-10, for the transitions that the transport causes or bypasses."""
    assert fsm.TRANSITION_TABLE[(event, state)].replace("_", "-") == action


def test_names_that_are_set_from_outside_exist() -> None:
    initialiser = inspect.getsource(Association.__init__) + inspect.getsource(association)
    for name in ("_accepted_cx", "_kill", "_server", "_is_paused", "_dul_ready"):
        assert f"self.{name}" in initialiser
    for name in ("_idle_timer", "_recv_pdu", "event_queue", "to_user_queue", "_kill_thread"):
        assert f"self.{name}" in inspect.getsource(dul)


def test_an_association_has_all_that_pynetdicom_gives_one() -> None:
    """Its constructors are not called, because they make a thread and queues for nothing."""
    entity = AE()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        store: Any = None
        association = StreamingAssociation(entity, ours, store, Negotiations())
        usual = Association(entity, "acceptor")
        assert vars(usual).keys() <= vars(association).keys()
        of_thread = vars(Thread()).keys() | {"_run_loop_delay"}
        assert vars(usual.dul).keys() - of_thread <= vars(association.dul).keys()
        for name in ("is_established", "is_aborted", "_kill", "_sent_abort", "mode", "daemon"):
            assert getattr(association, name) == getattr(usual, name), name
