"""DIMSE statuses: every one that this node answers, and which error leads to it."""

from __future__ import annotations

from enum import IntEnum

from pydicom.dataset import Dataset

from db.errors import DatabaseError, StorageFullError

from .errors import IdentityError, InvalidInstanceError, StructureError
from .transport.command import Outcome


class StoreStatus(IntEnum):
    """Statuses of C-STORE (PS3.4 Table B.2-1, PS3.7 Annex C)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    INVALID_SOP_INSTANCE = 0x0117
    OUT_OF_RESOURCES = 0xA700
    INDEX_UNAVAILABLE = 0xA701
    DATA_SET_DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


# The first class that an error is an instance of decides, so the special ones stand first. A7xx
# asks the sender to try again later; A9xx and Cxxx say that sending the same bytes cannot help.
_STATUS_OF_ERROR: tuple[tuple[type[Exception], StoreStatus], ...] = (
    (StructureError, StoreStatus.CANNOT_UNDERSTAND),
    (IdentityError, StoreStatus.DATA_SET_DOES_NOT_MATCH),
    (InvalidInstanceError, StoreStatus.INVALID_SOP_INSTANCE),
    (StorageFullError, StoreStatus.OUT_OF_RESOURCES),
    (DatabaseError, StoreStatus.INDEX_UNAVAILABLE),
)
_COMMENT = {
    StoreStatus.PROCESSING_FAILURE: "Internal error, see the log of the node",
    StoreStatus.OUT_OF_RESOURCES: "Disk full, not stored, send again later",
    StoreStatus.INDEX_UNAVAILABLE: "Index not available, send again later",
}


def status_of(error: Exception) -> StoreStatus:
    """Return the status that answers a C-STORE which failed with `error`."""
    for kind, status in _STATUS_OF_ERROR:
        if isinstance(error, kind):
            return status
    return StoreStatus.PROCESSING_FAILURE


def failure(error: Exception) -> Outcome:
    """Return what answers a C-STORE that failed with `error`.

    Status (0000,0900), Error Comment (0000,0902; at most 64 characters) and, where one element is
    at fault, Offending Element (0000,0901) (PS3.7 Section C.5).
    """
    status = status_of(error)
    comment = _COMMENT.get(status, str(error))
    # A backslash would separate values (PS3.5 Section 6.1.3).
    comment = comment.replace("\\", "/").encode("ascii", "replace").decode()[:64].rstrip()
    tag = getattr(error, "tag", None)
    return Outcome(int(status), comment, () if tag is None else (tag,))


def as_data_set(outcome: Outcome) -> Dataset:
    """Return an outcome in the form that pynetdicom's handlers answer with."""
    response = Dataset()
    response.Status = outcome.status
    if outcome.comment:
        response.ErrorComment = outcome.comment
    if outcome.offending:
        response.OffendingElement = list(outcome.offending)
    return response
