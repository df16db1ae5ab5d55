"""A-ASSOCIATE-RQ: looked over before pynetdicom decodes and negotiates it (PS3.8 Section 9.3.2).

Decoding costs pynetdicom some 30 microseconds for each item, and its negotiation believes what a
request proposes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import TYPE_CHECKING

from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from ..errors import ProtocolError

if TYPE_CHECKING:
    from pynetdicom.association import Association

A_ASSOCIATE_RQ = 1
_ITEMS_AT = 74
_ITEM = Struct(">BxH")
_PRESENTATION_CONTEXT = 0x20
# Presentation context IDs are the odd numbers of one byte.
_MOST_CONTEXTS = 128
# pydicom knows 60 transfer syntaxes; senders propose few of them for one class.
_MOST_ITEMS = _MOST_CONTEXTS * 64
_UID = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
# Modality Performed Procedure Step: a class that is never accepted here.
_NOT_SUPPORTED = UID("1.2.840.10008.3.1.2.3.3")


def check_associate_request(data: bytes) -> None:
    """Refuse a request of which no sender has any use.

    Parameters
    ----------
    data : bytes
        The PDU with its header.

    Raises
    ------
    ProtocolError
        If it has too many presentation contexts, or items in them.
    """
    n_contexts = n_items = 0
    for kind, start, end in _items(data, _ITEMS_AT, len(data)):
        if kind == _PRESENTATION_CONTEXT:
            n_contexts += 1
            n_items += sum(1 for _ in _items(data, start + 4, end))
        if n_contexts > _MOST_CONTEXTS or n_items > _MOST_ITEMS:
            raise ProtocolError("an A-ASSOCIATE-RQ with more contexts than there are")


def make_refusable(contexts: Iterable[PresentationContext]) -> None:
    """Change contexts that cannot be accepted so that pynetdicom refuses them.

    Its unrestricted storage service accepts every context in the first transfer syntax proposed,
    and fails on one that proposes none. Transfer syntaxes that are no UID are taken out (no file
    could name them), a context without any or without an abstract syntax becomes one of a class
    that is not supported: it is refused with result 3 (PS3.8 Section 9.3.3.2).
    """
    for context in contexts:
        usable = [one for one in context.transfer_syntax or () if _is_uid(one)]
        if not usable or not _is_uid(context.abstract_syntax):
            context.abstract_syntax = _NOT_SUPPORTED
            usable = [ImplicitVRLittleEndian]
        if len(usable) != len(context.transfer_syntax or ()):
            context._transfer_syntax = usable


def answer_roles(association: Association, contexts: Iterable[PresentationContext]) -> None:
    """Have the roles answered that are proposed for supported contexts (PS3.7 Section D.3.3.4).

    pynetdicom's unrestricted storage service negotiates them and then answers those of storage
    classes alone: a peer without an answer keeps to the default role, and a PACS would not send
    its reports of storage commitment.

    Parameters
    ----------
    contexts : iterable of PresentationContext
        Those that are supported, with the roles of this node where it has both.
    """
    both = {one.abstract_syntax for one in contexts if one.scu_role and one.scp_role}
    for uid, proposed in association.requestor.role_selection.items():
        if uid in both and (proposed.scu_role or proposed.scp_role):
            answer = SCP_SCU_RoleSelectionNegotiation()
            answer.sop_class_uid = uid
            answer.scu_role, answer.scp_role = proposed.scu_role, proposed.scp_role
            association.acceptor.add_negotiation_item(answer)


def _is_uid(text: str | None) -> bool:
    return text is not None and len(text) <= 64 and _UID.fullmatch(text) is not None


def _items(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield kind, start and end of items; what is no item is left to pynetdicom."""
    while at + _ITEM.size <= end:
        kind, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        yield kind, at, min(at + length, end)
        at += length
