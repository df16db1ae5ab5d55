"""C-FIND SCU: asks a peer whether it holds an instance (PS3.4 Section C.4.1)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from .deadline import deadline
from .errors import AssociationError
from .requestor import Context, Peer, association
from .structure import EXPLICIT_LITTLE, IMPLICIT_LITTLE

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_PENDING = (0xFF00, 0xFF01)
_CONTEXTS = (Context(STUDY_ROOT_FIND, IMPLICIT_LITTLE), Context(STUDY_ROOT_FIND, EXPLICIT_LITTLE))


def holds_instance(peer: Peer, study: str, series: str, instance: str) -> bool:
    """Ask at the IMAGE level of the Study Root model; True if the instance is found.

    Parameters
    ----------
    study, series, instance : str
        Study, Series and SOP Instance UID: a query below the root names all levels above it.

    Raises
    ------
    AssociationError
        If the peer cannot be asked, or answers with a failure.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study
    query.SeriesInstanceUID = series
    query.SOPInstanceUID = instance
    found = False
    with association(peer, _CONTEXTS) as opened, deadline(opened, peer.timeout):
        for answer, identifier in opened.send_c_find(query, STUDY_ROOT_FIND):
            status = answer.get("Status")
            if status is None:
                raise AssociationError(f"{peer}: the association broke during C-FIND")
            if status in _PENDING:
                # A peer that ignores the key answers with instances that were not asked for.
                found = found or (identifier or Dataset()).get("SOPInstanceUID") == instance
            elif status != 0:
                raise AssociationError(f"{peer}: C-FIND failed with status 0x{status:04X}")
    return found
