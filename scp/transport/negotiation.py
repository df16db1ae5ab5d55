"""Negotiation of associations, done once for equal requests (PS3.8 Section 7.1, PS3.7 Annex D).

A sender asks for the same again and again, many for each image anew, and what a request is
answered depends on nothing but its bytes and the settings of this node: decoding, negotiating and
encoding it are done once. Whom it lets in the node decides for each association all the same.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.transport import AddressInformation

if TYPE_CHECKING:
    from pynetdicom.pdu_primitives import A_ASSOCIATE
    from pynetdicom.presentation import PresentationContext

    from .association import StreamingAssociation

# Bounds what a peer that never asks for the same twice can make a node remember: objects take five
# to sixteen times the bytes of their request.
_MOST_BYTES = 256 * 1024
_LONGEST = 32 * 1024
_PROTOCOL_VERSION = 1


@dataclass(frozen=True, slots=True)
class Negotiated:
    """A request that was accepted, and how; shared by associations, which only read it.

    Attributes
    ----------
    primitive : A_ASSOCIATE
        The request.
    accepted : dict
        By presentation context ID.
    rejected : list
    answer : bytes
        The A-ASSOCIATE-AC PDU.
    """

    primitive: A_ASSOCIATE
    accepted: dict[int, PresentationContext]
    rejected: list[PresentationContext]
    answer: bytes

    @property
    def protocol_version(self) -> int:
        """What pynetdicom looks at in a request before anything else: others were not accepted."""
        return _PROTOCOL_VERSION

    def to_primitive(self) -> A_ASSOCIATE:
        """Return the request, in place of the PDU that would be decoded."""
        return self.primitive


class Negotiations:
    """What was negotiated lately, by the bytes of the request; thread safe."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Negotiated] = OrderedDict()
        self._n_bytes = 0
        self._guard = threading.Lock()

    def find(self, request: bytes) -> Negotiated | None:
        """Return what an equal A-ASSOCIATE-RQ led to, if it is known."""
        with self._guard:
            known = self._known.get(request)
            if known is not None:
                self._known.move_to_end(request)
            return known

    def remember(self, request: bytes, negotiated: Negotiated) -> None:
        """Remember what a request led to; forget what was not asked for the longest."""
        if len(request) > _LONGEST:
            return
        with self._guard:
            if request not in self._known:
                self._n_bytes += len(request)
            self._known[request] = negotiated
            while self._n_bytes > _MOST_BYTES:
                oldest, _ = self._known.popitem(last=False)
                self._n_bytes -= len(oldest)


class RememberingACSE(ACSE):
    """pynetdicom's association control, which negotiates only what is not known yet.

    Parameters
    ----------
    association : StreamingAssociation
    negotiations : Negotiations
    """

    def __init__(self, association: StreamingAssociation, negotiations: Negotiations) -> None:
        super().__init__(association)
        self._association = association
        self._negotiations = negotiations

    def _negotiate_as_acceptor(self) -> None:
        association, layer = self._association, self._association.upper_layer
        known = layer.known_request
        if known is None:
            self._introduce()
            super()._negotiate_as_acceptor()
            self._remember(layer.request, layer.acceptance)
            return
        self.requestor.ae_title = known.primitive.calling_ae_title
        association._accepted_cx = known.accepted
        association._rejected_cx = known.rejected
        layer.accept(known.answer)
        association.is_established = True
        evt.trigger(association, evt.EVT_ESTABLISHED, {})

    def _introduce(self) -> None:
        """Say who accepts, and what."""
        entity, server, acceptor = self._association.ae, self._association._server, self.acceptor
        assert server is not None
        acceptor.maximum_length = entity.maximum_pdu_size
        acceptor.ae_title = server.ae_title
        acceptor.address_info = AddressInformation.from_tuple(server.server_address)
        acceptor.implementation_class_uid = entity.implementation_class_uid
        acceptor.implementation_version_name = entity.implementation_version_name
        acceptor.supported_contexts = server.contexts

    def _remember(self, request: bytes, acceptance: bytes) -> None:
        association = self._association
        # Credentials are not kept, nor is what would be answered to them.
        if not association.is_established or not acceptance or self.requestor.user_identity:
            return
        negotiated = Negotiated(
            cast("A_ASSOCIATE", self.requestor.primitive),
            association._accepted_cx,
            association._rejected_cx,
            acceptance,
        )
        self._negotiations.remember(request, negotiated)
