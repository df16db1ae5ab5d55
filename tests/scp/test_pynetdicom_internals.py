"""What the streaming transport relies on inside pynetdicom; its constraint is `<3.1` for this.

When this fails after an upgrade, read the changes of the modules named here before anything else:
`scp/transport` subclasses them.
"""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import version

import pytest
from pynetdicom import acse, association, dul, fsm, transport
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket, ThreadedAssociationServer

# The source of what is replaced or called, as it was when the transport was written for it.
_RELIED_UPON = {
    "Association.__init__": Association.__init__,
    "Association._abort_blocking": Association._abort_blocking,
    "Association.kill": Association.kill,
    "Association.run_reactor": Association.run_reactor,
    "Association._run_reactor": Association._run_reactor,
    "Association._serve_request": Association._serve_request,
    "DULServiceProvider.__init__": DULServiceProvider.__init__,
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
_DIGEST = "f286b1a5f638d0a21eb510f00cdcbf1059d086de5b7871275e43c9aa30a208ae"


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
