"""Storage Commitment Push Model as SCU: the request, and reading its answer (PS3.4 Annex J)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.dsutils import encode

from .deadline import deadline
from .errors import RefusedError, UnreachableError
from .requestor import Context, exclusive, is_stored
from .structure import EXPLICIT_LITTLE, IMPLICIT_LITTLE

PUSH_MODEL = "1.2.840.10008.1.20.1"
# The well-known SOP Instance of the class (PS3.4 Section J.3.5).
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"
COMMITMENT_CONTEXTS = (
    Context(PUSH_MODEL, IMPLICIT_LITTLE),
    Context(PUSH_MODEL, EXPLICIT_LITTLE),
)
_REQUEST_COMMITMENT = 1
# What a failure without a reason counts as: processing failure (PS3.3 Section C.14.1.1).
_NO_REASON = 0x0110


@dataclass(frozen=True, slots=True)
class CommitmentAnswer:
    """What an N-EVENT-REPORT says about one request (PS3.4 Section J.3.3.1).

    Attributes
    ----------
    committed : frozenset of str
        SOP Instance UIDs that the peer keeps.
    failed : mapping of str to int
        Failure Reason (0008,1197) by SOP Instance UID.
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int] = field(default_factory=dict)


def read_answer(information: Dataset) -> CommitmentAnswer:
    """Read the Event Information of an N-EVENT-REPORT.

    Raises
    ------
    RefusedError
        If it names no transaction.
    """
    transaction = str(information.get("TransactionUID") or "")
    if not transaction:
        raise RefusedError("an answer to storage commitment without Transaction UID (0008,1195)")
    failed = {_instance(item): _reason(item) for item in information.get("FailedSOPSequence") or ()}
    committed = frozenset(
        _instance(item) for item in information.get("ReferencedSOPSequence") or ()
    )
    return CommitmentAnswer(transaction, committed - {""}, failed)


def _instance(item: Dataset) -> str:
    return str(item.get("ReferencedSOPInstanceUID") or "")


def _reason(item: Dataset) -> int:
    value = item.get("FailureReason")
    return value if isinstance(value, int) else _NO_REASON


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
    context = next(one for one in opened.accepted_contexts if one.abstract_syntax == PUSH_MODEL)
    request = N_ACTION()
    request.MessageID = 1
    request.RequestedSOPClassUID = UID(PUSH_MODEL)
    request.RequestedSOPInstanceUID = UID(PUSH_MODEL_INSTANCE)
    request.ActionTypeID = _REQUEST_COMMITMENT
    information = _information(transaction_uid, sop_class_uid, sop_instance_uid)
    syntax = context.transfer_syntax[0]
    encoded = encode(information, syntax.is_implicit_VR, syntax.is_little_endian)
    request.ActionInformation = BytesIO(encoded or b"")
    assert context.context_id is not None
    with deadline(opened, seconds), exclusive(opened):
        opened.dimse.send_msg(request, context.context_id)
        status = _status(opened)
    if not is_stored(status):
        raise RefusedError(
            f"storage commitment refused with status 0x{status:04X}", f"0x{status:04X}"
        )


def _information(transaction_uid: str, sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [item]
    return information


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
