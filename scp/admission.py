"""Who may open an association, and how many may be open: decisions only, no network."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .patterns import AddressPatterns, AePatterns
from .settings import ScpSettings


class RejectionKind(StrEnum):
    """Why an association is rejected, in log and metrics."""

    ADDRESS = "address"
    CALLING_AE = "calling_ae"
    CALLED_AE = "called_ae"
    STOPPING = "stopping"
    DISK = "disk"
    ASSOCIATIONS = "associations"
    AE_LIMIT = "ae_limit"


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who asks for an association.

    Attributes
    ----------
    calling_ae, called_ae : str
        The AE titles of the request.
    address : str
        The peer's IP address.
    stores : bool
        Whether it may send images: a disk that is full for them has room for what it may send.
    """

    calling_ae: str
    called_ae: str
    address: str
    stores: bool = True


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 Section 9.3.4).

    Attributes
    ----------
    result : int
        1 rejected permanently, 2 rejected transiently: the sender may try again.
    source : int
        1 the service user, 3 the service provider (presentation related).
    reason : int
        Its meaning depends on `source`.
    why : str
        For the log; names the setting.
    kind : RejectionKind
        The same for metrics.
    """

    result: int
    source: int
    reason: int
    why: str
    kind: RejectionKind


ADDRESS_NOT_ALLOWED = Rejection(
    1, 1, 1, "the address is not in scp.address_allow", RejectionKind.ADDRESS
)
CALLING_AE_NOT_RECOGNIZED = Rejection(
    1, 1, 3, "the calling AE title is not in scp.calling_ae_allow", RejectionKind.CALLING_AE
)
CALLED_AE_NOT_RECOGNIZED = Rejection(
    1, 1, 7, "the called AE title is not in scp.called_ae_allow", RejectionKind.CALLED_AE
)
SHUTTING_DOWN = Rejection(2, 3, 1, "the node is shutting down", RejectionKind.STOPPING)
DISK_FULL = Rejection(2, 3, 1, "less than scp.min_free_disk_mb is free", RejectionKind.DISK)
TOO_MANY = Rejection(2, 3, 2, "scp.max_associations are open", RejectionKind.ASSOCIATIONS)
TOO_MANY_OF_AE = Rejection(
    2, 3, 2, "scp.ae_limits: as many as it may are open from it", RejectionKind.AE_LIMIT
)


class Admission:
    """Decides over associations and counts those that are open; thread safe.

    Parameters
    ----------
    settings : ScpSettings
    has_room : callable
        Tells whether the disk has room for images; asked last of what needs no count.
    """

    def __init__(self, settings: ScpSettings, has_room: Callable[[], bool]) -> None:
        closed = settings.access == "closed"
        self._addresses = (
            AddressPatterns(settings.address_allow) if closed or settings.address_allow else None
        )
        self._calling = _listed(settings.calling_ae_allow, closed)
        self._called = _listed(settings.called_ae_allow, closed)
        self._has_room = has_room
        self._most = settings.max_associations
        self._limits = [(AePatterns([ae]), most) for ae, most in settings.ae_limits.items()]
        self._guard = threading.Lock()
        self._is_closed = False
        self._open: dict[object, str] = {}
        self._of_ae: Counter[str] = Counter()

    @property
    def n_open(self) -> int:
        """Associations that were admitted and have not left."""
        return len(self._open)

    def keys(self) -> tuple[object, ...]:
        """Return the keys of the associations that are open now."""
        with self._guard:
            return tuple(self._open)

    def allows_address(self, address: str) -> bool:
        """Tell whether a peer may connect at all; asked before anything is read from it."""
        return self._addresses is None or self._addresses.match(address)

    def decide(self, key: object, applicant: Applicant) -> Rejection | None:
        """Admit an association, or say why not.

        Parameters
        ----------
        key : hashable
            Under which the association is counted until `leave`; a key counts once.
        applicant : Applicant

        Returns
        -------
        Rejection or None
            None: it is admitted. What another try cannot change is said before what it can.
        """
        return self._not_allowed(applicant) or self._no_place(key, applicant)

    def leave(self, key: object) -> None:
        """Free the place of an association that has ended; a key that holds none is no error."""
        with self._guard:
            ae_title = self._open.pop(key, None)
            if ae_title is None:
                return
            self._of_ae[ae_title] -= 1
            if not self._of_ae[ae_title]:
                del self._of_ae[ae_title]  # a peer may call itself anything: nothing may pile up

    def close(self) -> None:
        """Reject everybody from now on, transiently: the node is shutting down."""
        with self._guard:
            self._is_closed = True

    def _not_allowed(self, applicant: Applicant) -> Rejection | None:
        if not self.allows_address(applicant.address):
            return ADDRESS_NOT_ALLOWED
        if self._calling is not None and not self._calling.match(applicant.calling_ae):
            return CALLING_AE_NOT_RECOGNIZED
        if self._called is not None and not self._called.match(applicant.called_ae):
            return CALLED_AE_NOT_RECOGNIZED
        return None

    def _no_place(self, key: object, applicant: Applicant) -> Rejection | None:
        ae_title = applicant.calling_ae.strip(" ")
        # Asked outside the lock: a disk that hangs must not hold up those who leave.
        has_room = not applicant.stores or self._has_room()
        most_of_ae = self._limit_of(ae_title)
        with self._guard:
            if self._is_closed:
                return SHUTTING_DOWN
            if not has_room:
                return DISK_FULL
            if key in self._open:
                return None
            if len(self._open) >= self._most:
                return TOO_MANY
            if most_of_ae is not None and self._of_ae[ae_title] >= most_of_ae:
                return TOO_MANY_OF_AE
            self._open[key] = ae_title
            self._of_ae[ae_title] += 1
        return None

    def _limit_of(self, ae_title: str) -> int | None:
        return next((most for ae, most in self._limits if ae.match(ae_title)), None)


def _listed(patterns: tuple[str, ...], closed: bool) -> AePatterns | None:
    """Return what is allowed; None is everybody."""
    return AePatterns(patterns) if patterns or closed else None
