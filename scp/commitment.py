"""Storage Commitment Push Model as SCU: the request, and its response (PS3.4 Section J.3.2)."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT

from .commitment_data import (
    REQUEST_COMMITMENT,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    action_of,
    encoded,
)
from .deadline import deadline
from .errors import RefusedError, UnreachableError
from .requestor import Context, exclusive, is_stored
from .structure import EXPLICIT_LITTLE, IMPLICIT_LITTLE

COMMITMENT_CONTEXTS = (
    Context(STORAGE_COMMITMENT, IMPLICIT_LITTLE),
    Context(STORAGE_COMMITMENT, EXPLICIT_LITTLE),
)


def request_commitment(
    opened: Association,
    transaction_uid: str,
    sop_class_uid: str,
    sop_instance_uid: str,
    seconds: float,
) -> None:
    """Send the N-ACTION for one instance and await its response (PS3.4 Section J.3.2).

    Raises
    ------
    RefusedError
        If the peer does not take the request.
    UnreachableError
        If no response came.
    """
    context = next(
        one for one in opened.accepted_contexts if one.abstract_syntax == STORAGE_COMMITMENT
    )
    request = N_ACTION()
    request.MessageID = 1
    request.RequestedSOPClassUID = UID(STORAGE_COMMITMENT)
    request.RequestedSOPInstanceUID = UID(STORAGE_COMMITMENT_INSTANCE)
    request.ActionTypeID = REQUEST_COMMITMENT
    information = action_of(transaction_uid, [(sop_class_uid, sop_instance_uid)])
    request.ActionInformation = BytesIO(encoded(information, str(context.transfer_syntax[0])))
    assert context.context_id is not None
    with deadline(opened, seconds), exclusive(opened):
        opened.dimse.send_msg(request, context.context_id)
        status = _status(opened)
    if not is_stored(status):
        raise RefusedError(
            f"storage commitment refused with status 0x{status:04X}", f"0x{status:04X}"
        )


def _status(opened: Association) -> int:
    """Return the status of the N-ACTION response; the report may be faster than it."""
    while True:
        context_id, message = opened.dimse.get_msg(block=True)
        asked: Any = message
        if context_id is not None and isinstance(asked, N_EVENT_REPORT) and asked.is_valid_request:
            opened._serve_request(asked, context_id)
            continue
        status = getattr(message, "Status", None)
        if status is None:
            raise UnreachableError(
                "the association broke before the N-ACTION was answered", has_begun=True
            )
        return int(status)
