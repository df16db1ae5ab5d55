"""pynetdicom's application entities, with the settings that this node needs.

pynetdicom keeps some of its settings in a module; they are set here and nowhere else.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

from pydicom import config as pydicom_config
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, _config, build_context

from .commitment_data import STORAGE_COMMITMENT
from .part10 import IMPLEMENTATION_CLASS_UID, implementation_version_name
from .structure import EXPLICIT_LITTLE, IMPLICIT_LITTLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pynetdicom.presentation import PresentationContext

    from .settings import ScpSettings


VERIFICATION = "1.2.840.10008.1.1"
# Non-Patient Object Storage (PS3.4 Table GG.3-1): hanging protocols, color palettes, implant
# templates, defined procedure protocols, protocol approvals, inventories.
NON_PATIENT_CLASSES = (
    "1.2.840.10008.5.1.4.38.1",
    "1.2.840.10008.5.1.4.39.1",
    "1.2.840.10008.5.1.4.43.1",
    "1.2.840.10008.5.1.4.44.1",
    "1.2.840.10008.5.1.4.45.1",
    "1.2.840.10008.5.1.4.1.1.200.1",
    "1.2.840.10008.5.1.4.1.1.200.3",
    "1.2.840.10008.5.1.4.1.1.200.7",
    "1.2.840.10008.5.1.4.1.1.201.1",
)


class SharedContexts(list["PresentationContext"]):
    """Presentation contexts that all associations share.

    pynetdicom copies the contexts of the server for every association. Negotiation only reads
    them, and the copy holds the interpreter for as long as receiving several images takes.
    """

    def __deepcopy__(self, memo: object) -> SharedContexts:
        return self


def supported_contexts(*, storage_commitment: bool = False) -> SharedContexts:
    """Return the contexts that need listing: Verification and Non-Patient Object Storage.

    Storage commitment is accepted in both roles (PS3.7 Section D.3.3.4): a modality asks, as user,
    and a PACS that answers on an association of its own proposes to be provider.

    Every other storage SOP class is accepted, standard, retired, private or not yet known, in the
    transfer syntax that its sender prefers: `acceptor` switches pynetdicom's unrestricted storage
    service on, and what arrives is kept as it is.
    """
    classes = (VERIFICATION, *NON_PATIENT_CLASSES)
    contexts = [build_context(one, list(AllTransferSyntaxes)) for one in classes]
    if storage_commitment:
        commitment = build_context(STORAGE_COMMITMENT, [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
        commitment.scu_role = commitment.scp_role = True
        contexts.append(commitment)
    return SharedContexts(contexts)


def may_store(proposed: Iterable[PresentationContext]) -> bool:
    """Tell whether who proposes these contexts may send images: not with those of other services.

    Any SOP class that is not known to be of another service is taken for one of storage.
    """
    return any(one.abstract_syntax not in (VERIFICATION, STORAGE_COMMITMENT) for one in proposed)


def acceptor(settings: ScpSettings) -> AE:
    """Return the application entity that accepts associations."""
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    _configure()
    # UIDs of a peer are checked where they matter, by `scp.header`. pydicom's check of each one in
    # a negotiation costs a quarter of its time, and warns with the value.
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    entity = _entity(settings.ae_title)
    # pynetdicom counts connections that have requested nothing yet; the server counts better.
    entity.maximum_associations = sys.maxsize
    entity.maximum_pdu_size = settings.max_pdu
    entity.acse_timeout = settings.acse_timeout
    entity.dimse_timeout = settings.dimse_timeout
    entity.network_timeout = settings.network_timeout
    return entity


def requestor(calling_ae: str, timeout: float) -> AE:
    """Return an application entity that opens associations and waits for nothing any longer."""
    _configure()
    entity = _entity(calling_ae)
    entity.acse_timeout = timeout
    entity.dimse_timeout = timeout
    entity.network_timeout = timeout
    entity.connection_timeout = min(timeout, 30.0)
    return entity


def _entity(ae_title: str) -> AE:
    entity = AE(ae_title=ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = implementation_version_name()
    return entity


def _configure() -> None:
    # Both warn with the text that a peer sent, and Python keeps every text that it warned of once.
    for library in ("pydicom", "pynetdicom"):
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
    # Its handlers format every PDU and message, also when nobody logs them.
    _config.LOG_HANDLER_LEVEL = "none"
    # Identifiers name patients.
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
