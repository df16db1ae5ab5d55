"""C-ECHO as a requestor (PS3.7 Section 9.1.5): ask whether a peer is there and knows us."""

from __future__ import annotations

from .deadline import deadline
from .errors import AssociationError
from .requestor import Context, Peer, association

_VERIFICATION = "1.2.840.10008.1.1"
_IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_SUCCESS = 0x0000


def echo(peer: Peer) -> None:
    """Return if the peer answers a C-ECHO with success.

    Raises
    ------
    AssociationError
        If it is not there, rejects the association or answers otherwise.
    """
    context = Context(_VERIFICATION, _IMPLICIT_LITTLE_ENDIAN)
    with association(peer, [context]) as opened, deadline(opened, peer.timeout):
        answer = opened.send_c_echo()
    if getattr(answer, "Status", None) != _SUCCESS:
        raise AssociationError(f"{peer} does not answer C-ECHO with success")
