"""What a target is told, whatever the way: an ended analysis and what its images say of the order.

The message of an analysis is made from its rows and its first image at every attempt, and is the
same each time; its times are those of the analysis, never of the attempt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import pydicom
import structlog
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from db.files import FileStore
from db.notifications import DueNotification
from db.told import Told, ToldFinding

UNVERIFIED = "AI - unverified. Preliminary result of an algorithm, not for primary diagnosis."
_LOG = structlog.get_logger()
# Also a sequence that is none: the types of what a header holds are the sender's.
_ODD_IMAGE = (
    AttributeError, InvalidDicomError, LookupError, NotImplementedError, OSError, TypeError,
    ValueError,
)  # fmt: skip
# MSH-10 holds 20 characters in HL7 v2.5.1 (ST, Section 2.15.9.10).
_IDENTIFIER_LENGTH = 20


@dataclass(frozen=True, slots=True)
class Coded:
    """A code of the images: value, scheme and meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who assigned an identifier (PS3.3 Table 10-17, HL7v2 Hierarchic Designator Macro)."""

    local: str = ""
    universal: str = ""
    universal_type: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What an image says of the order behind it; empty where it says nothing."""

    issuer: Issuer = field(default_factory=Issuer)
    placer_number: str = ""
    filler_number: str = ""
    procedure: Coded | None = None
    study_time: str = ""
    utc_offset: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One notification; `identifier` stays with it at every attempt."""

    identifier: str
    told: Told
    order: Order
    is_test: bool = False


class Channel(Protocol):
    """A way to a target."""

    def send(self, message: Message) -> str:
        """Send, and return the status with which the target accepted it.

        Raises
        ------
        NotifyError
            If it was not accepted, as far as is known.
        """


def identifier(due: DueNotification) -> str:
    """Return what a notification is known by at its target, at every attempt.

    The row number alone would come again in a database that is made anew, and a receiver that
    remembers it would drop a message that it never had.
    """
    of = f"{due.id} {due.analysis_id} {due.created_at.astimezone(UTC).isoformat()}"
    digest = hashlib.sha256(of.encode()).hexdigest().upper()
    return f"{due.id}-{digest}"[:_IDENTIFIER_LENGTH]


def read_order(files: FileStore, told: Told) -> Order:
    """Return what the first image says of the order; nothing if it is gone or cannot be read."""
    if told.image_path is None:
        return Order()
    try:
        image = pydicom.dcmread(
            files.absolute(told.image_path), stop_before_pixels=True, force=True
        )
        return order_of(image)
    except _ODD_IMAGE as error:
        # A finding is worth telling without its order.
        _LOG.warning(
            "notification.no_order",
            trace=told.trace_id,
            analysis=told.analysis_id[:12],
            error=type(error).__name__,
        )
        return Order()


def order_of(image: Dataset) -> Order:
    """Return what an image says of the order behind it.

    Order numbers stand in Request Attributes Sequence (0040,0275) or, in old images, beside it.
    """
    requests = list(image.get("RequestAttributesSequence") or ())
    places = [*requests[:1], image]
    return Order(
        issuer=_issuer(image),
        placer_number=_text(places, "PlacerOrderNumberImagingServiceRequest"),
        filler_number=_text(places, "FillerOrderNumberImagingServiceRequest"),
        procedure=_procedure(places),
        study_time=_text([image], "StudyTime"),
        utc_offset=_text([image], "TimezoneOffsetFromUTC"),
    )


def _issuer(image: Dataset) -> Issuer:
    for qualifiers in image.get("IssuerOfPatientIDQualifiersSequence") or ():
        return Issuer(
            _text([image], "IssuerOfPatientID"),
            _text([qualifiers], "UniversalEntityID"),
            _text([qualifiers], "UniversalEntityIDType"),
        )
    return Issuer(_text([image], "IssuerOfPatientID"))


def _procedure(places: Sequence[Dataset]) -> Coded | None:
    for place in places:
        for keyword in ("RequestedProcedureCodeSequence", "ProcedureCodeSequence"):
            for item in place.get(keyword) or ():
                code = Coded(
                    _text([item], "CodeValue") or _text([item], "LongCodeValue"),
                    _text([item], "CodingSchemeDesignator"),
                    _text([item], "CodeMeaning"),
                )
                if code.value and code.meaning:
                    return code
    return None


def _text(places: Sequence[Dataset], keyword: str) -> str:
    for place in places:
        value = place.get(keyword)
        if value is not None and not isinstance(value, pydicom.Sequence):
            text = str(value).strip(" \0")
            if text:
                return text
    return ""


def test_message(now: datetime) -> Message:
    """Return a message of nobody, marked as a test wherever a receiver may look."""
    finding = ToldFinding("test", "36118008", "SCT", "Pneumothorax", "series", "Absent", 0.0)
    told = Told(
        analysis_id="0" * 64,
        study_instance_uid="2.25.0",
        series_instance_uid="2.25.1",
        model_name="test",
        model_version="0",
        version=1,
        predecessor_id=None,
        state="done",
        reason_code=None,
        reason=None,
        priority="routine",
        trace_id="test",
        received_at=now,
        finished_at=now,
        patient_id="PREREAD-TEST",
        patient_name="Test^Preread",
        patient_birth_date=None,
        patient_sex="O",
        accession_number="PREREAD-TEST",
        study_date=now.strftime("%Y%m%d"),
        study_description="Test of a notification",
        modality="OT",
        findings=(finding,),
    )
    digest = hashlib.sha256(now.isoformat().encode()).hexdigest().upper()
    return Message(f"TEST-{digest}"[:_IDENTIFIER_LENGTH], told, Order(), is_test=True)
