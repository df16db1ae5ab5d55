"""The ways to a destination, as delivery sees them: C-STORE or STOW-RS.

A channel opens sessions; within a session several objects go the same way, and each is answered for
itself. What cannot be reached raises `UnreachableError`, what is not done `RefusedError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from .requestor import Context

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
# The same tree is valid in all three; from the best to the one that most destinations know.
REPORT_CLASSES = (COMPREHENSIVE_3D_SR, COMPREHENSIVE_SR, ENHANCED_SR)


def lesser_classes(sop_class_uid: str) -> tuple[str, ...]:
    """Return the classes in which a report could be sent instead, the best first."""
    if sop_class_uid not in REPORT_CLASSES:
        return ()
    return REPORT_CLASSES[REPORT_CLASSES.index(sop_class_uid) + 1 :]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A result object as it lies on disk, checked and ready to go.

    Attributes
    ----------
    content : bytes
        The whole file (PS3.10 Section 7).
    data_set_offset : int
        Where its data set begins.
    """

    context: Context
    sop_instance_uid: str
    content: bytes
    data_set_offset: int

    def data_set(self) -> bytes:
        """Return the encoded data set."""
        return self.content[self.data_set_offset :]

    def in_class(self, sop_class_uid: str) -> Context:
        """Return the context that it would need in another SOP class."""
        return Context(sop_class_uid, self.context.transfer_syntax)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a destination said to an object.

    Attributes
    ----------
    status : str or None
        DIMSE or HTTP status, such as 0xA700 or 413; None if the object was not even offered.
    is_wrong_class : bool
        Whether it does not take objects of that SOP class.
    reason : str
        Why it did not store it.
    """

    status: str | None
    is_stored: bool
    is_wrong_class: bool = False
    reason: str = ""


Holds = Callable[[str, str, str], bool]


class Session(Protocol):
    """An open way to a destination."""

    @property
    def commits(self) -> bool:
        """Whether the destination can be asked for storage commitment here."""

    def accepts(self, context: Context) -> bool:
        """Tell whether objects of that class and transfer syntax can go this way."""

    def store(self, parcel: Parcel) -> Answer:
        """Send an object and return the answer."""

    def ask_commitment(self, transaction_uid: str, sop_class_uid: str, instance: str) -> None:
        """Ask that an instance be kept for good (PS3.4 Section J.3.2)."""

    def listen(self, seconds: float, is_over: Callable[[], bool]) -> None:
        """Leave the way open for answers, until `is_over` or the time is over."""


class Channel(Protocol):
    """A way to a destination."""

    def open(
        self, contexts: Sequence[Context], *, commitment: bool
    ) -> AbstractContextManager[Session]:
        """Open a session in which only these contexts, and storage commitment, are proposed."""

    def query(self) -> AbstractContextManager[Holds]:
        """Open what tells whether an instance is held: by Study, Series and SOP Instance UID."""
