"""C-FIND SCU: asks a peer whether it holds an instance (PS3.4 Section C.4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pynetdicom.association import Association

from .channel import Holds
from .deadline import deadline
from .errors import RefusedError, UnreachableError
from .requestor import Context, Peer, association
from .structure import EXPLICIT_LITTLE, IMPLICIT_LITTLE

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_PENDING = (0xFF00, 0xFF01)
_CONTEXTS = (Context(STUDY_ROOT_FIND, IMPLICIT_LITTLE), Context(STUDY_ROOT_FIND, EXPLICIT_LITTLE))


@contextmanager
def finder(peer: Peer) -> Iterator[Holds]:
    """Open an association for questions at the IMAGE level of the Study Root model.

    What it yields is called with Study, Series and SOP Instance UID, because a query below the root
    names all levels above it. It raises `UnreachableError` if the peer breaks off and
    `RefusedError` if it answers with a failure.
    """
    with association(peer, _CONTEXTS) as opened:

        def holds(study: str, series: str, instance: str) -> bool:
            return _is_found(peer, opened, study, series, instance)

        yield holds


def holds_instance(peer: Peer, study: str, series: str, instance: str) -> bool:
    """Ask on an association of its own; True if the instance is found.

    Raises
    ------
    AssociationError
        If the peer cannot be asked, or answers with a failure.
    """
    with finder(peer) as holds:
        return holds(study, series, instance)


def _is_found(peer: Peer, opened: Association, study: str, series: str, instance: str) -> bool:
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study
    query.SeriesInstanceUID = series
    query.SOPInstanceUID = instance
    found = False
    if not opened.is_established:
        raise UnreachableError(f"{peer}: the association broke before C-FIND")
    with deadline(opened, peer.timeout):
        for answer, identifier in opened.send_c_find(query, STUDY_ROOT_FIND):
            status = answer.get("Status")
            if status is None:
                raise UnreachableError(f"{peer}: the association broke during C-FIND")
            if status in _PENDING:
                # A peer that ignores the key answers with instances that were not asked for.
                found = found or (identifier or Dataset()).get("SOPInstanceUID") == instance
            elif status != 0:
                code = f"0x{status:04X}"
                raise RefusedError(f"{peer}: C-FIND failed with status {code}", code)
    return found
