"""The data sets of storage commitment: its request, and the report that answers (PS3.4 Annex J).

They are read and written here whichever side this node is on: as provider it reads requests and
writes reports, as user the other way round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

from .errors import CommitmentError
from .header import is_uid

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
# The well-known instance, to which every request and report goes (PS3.4 Section J.3.5).
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST_COMMITMENT = 1  # Action Type ID
ALL_COMMITTED, FAILURES_EXIST = 1, 2  # Event Type IDs

_PROCESSING_FAILURE = 0x0110
_INVALID_ARGUMENT = 0x0115


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """Action Information (PS3.4 Table J.3-1).

    Attributes
    ----------
    instances : tuple of (str, str)
        SOP Class UID and SOP Instance UID of each instance; none stands twice.
    """

    transaction_uid: str
    instances: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CommitmentAnswer:
    """Event Information (PS3.4 Table J.3-2).

    Attributes
    ----------
    committed : tuple of str
        SOP Instance UIDs.
    failed : mapping of str to int
        Failure Reason by SOP Instance UID.
    """

    transaction_uid: str
    committed: tuple[str, ...]
    failed: Mapping[str, int]


def read_request(data: bytes, transfer_syntax_uid: str) -> CommitmentRequest:
    """Read the data set of an N-ACTION request.

    Raises
    ------
    CommitmentError
        If it is none, with the status to answer.
    """
    try:
        found = _decode(data, transfer_syntax_uid)
        transaction_uid = str(found.get("TransactionUID", "") or "")
        instances = tuple(dict.fromkeys(_references(found.get("ReferencedSOPSequence"))))
    except CommitmentError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom raises anything on what a peer sent
        raise _undecodable(error) from None
    if not is_uid(transaction_uid):
        raise CommitmentError("Transaction UID (0008,1195) is missing or no UID", _INVALID_ARGUMENT)
    if not instances:
        raise CommitmentError("Referenced SOP Sequence (0008,1199) is empty", _INVALID_ARGUMENT)
    if not all(is_uid(uid) for reference in instances for uid in reference):
        raise CommitmentError("a referenced SOP Class or Instance is no UID", _INVALID_ARGUMENT)
    return CommitmentRequest(transaction_uid, instances)


def read_answer(data: bytes, transfer_syntax_uid: str) -> CommitmentAnswer:
    """Read the data set of an N-EVENT-REPORT request.

    Raises
    ------
    CommitmentError
        If it is none, with the status to answer.
    """
    try:
        found = _decode(data, transfer_syntax_uid)
        transaction_uid = str(found.get("TransactionUID", "") or "")
        committed = tuple(uid for _, uid in _references(found.get("ReferencedSOPSequence")))
        failed = {
            str(item.get("ReferencedSOPInstanceUID", "")): int(
                item.get("FailureReason", None) or _PROCESSING_FAILURE
            )
            for item in found.get("FailedSOPSequence", None) or ()
        }
    except Exception as error:  # noqa: BLE001 - pydicom raises anything on what a peer sent
        raise _undecodable(error) from None
    if not is_uid(transaction_uid):
        raise CommitmentError("Transaction UID (0008,1195) is missing or no UID", _INVALID_ARGUMENT)
    # Whoever says both of an instance has not said that it is safe.
    return CommitmentAnswer(
        transaction_uid, tuple(uid for uid in committed if uid not in failed), failed
    )


def event_of(
    transaction_uid: str,
    instances: Sequence[tuple[str, str]],
    failures: Mapping[str, int],
) -> tuple[int, Dataset]:
    """Return Event Type ID and Event Information of a report (PS3.4 Section J.3.3.1).

    Parameters
    ----------
    instances : sequence of (str, str)
        SOP Class UID and SOP Instance UID of what was asked for.
    failures : mapping of str to int
        By SOP Instance UID the Failure Reason of what is not committed.
    """
    information = Dataset()
    information.TransactionUID = UID(transaction_uid)
    committed = [_item(*one) for one in instances if one[1] not in failures]
    failed = [_item(*one) for one in instances if one[1] in failures]
    for item in failed:
        item.FailureReason = int(failures[item.ReferencedSOPInstanceUID])
    # Each sequence stands there only with items (Table J.3-2).
    if committed:
        information.ReferencedSOPSequence = committed
    if failed:
        information.FailedSOPSequence = failed
    return (FAILURES_EXIST if failed else ALL_COMMITTED), information


def action_of(transaction_uid: str, instances: Sequence[tuple[str, str]]) -> Dataset:
    """Return the Action Information of a request (PS3.4 Section J.3.2.1).

    Parameters
    ----------
    instances : sequence of (str, str)
        SOP Class UID and SOP Instance UID of each.
    """
    information = Dataset()
    information.TransactionUID = UID(transaction_uid)
    information.ReferencedSOPSequence = [_item(*one) for one in instances]
    return information


def encoded(information: Dataset, transfer_syntax_uid: str) -> bytes:
    """Return a data set in a transfer syntax without compression."""
    syntax = UID(transfer_syntax_uid)
    made = encode(information, syntax.is_implicit_VR, syntax.is_little_endian)
    assert made is not None, "a data set made here can be encoded"
    return bytes(made)


def _decode(data: bytes, transfer_syntax_uid: str) -> Dataset:
    syntax = UID(transfer_syntax_uid)
    return decode(BytesIO(data), syntax.is_implicit_VR, syntax.is_little_endian)


def _item(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = UID(sop_class_uid)
    item.ReferencedSOPInstanceUID = UID(sop_instance_uid)
    return item


def _references(items: Iterable[Dataset] | None) -> list[tuple[str, str]]:
    return [
        (
            str(item.get("ReferencedSOPClassUID", "") or ""),
            str(item.get("ReferencedSOPInstanceUID", "") or ""),
        )
        for item in items or ()
    ]


def _undecodable(error: Exception) -> CommitmentError:
    # The text of the error may quote what was sent.
    reason = f"the data set cannot be read ({type(error).__name__})"
    return CommitmentError(reason, _PROCESSING_FAILURE)
