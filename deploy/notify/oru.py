r"""An analysis as an HL7 v2.5.1 ORU^R01 message (HL7 v2.5.1 Section 7.3.1).

What receivers look for, and where it is known from:

- OBR-18 holds the Accession Number, OBR-25 is P, preliminary: the ORU of IHE Results Distribution
  (RAD supplement RD), which keeps the meaning of HL7 v2.3.1 for OBR-18 because an ORU has no IPC
  segment. OBR-2 and OBR-3 are the order numbers of Request Attributes Sequence (0040,0275); without
  a filler's, OBR-3 is the Accession Number, as RD allows where the two are one, and without that
  the start of the analysis id, so that it is never empty.
- OBX-3 ``113014^DICOM Study^DCM`` with the Study Instance UID as ST and OBX-11 O: IHE's MESA tests
  ask for it (they cite RAD TF-2 Table 4.7-7), and dcm4chee-arc sends it.
- OBX-3 ``^SR Instance UID`` with the SOP Instance UID of the report as HD: so IHE's MESA tools
  write a report that they export, and dcm4chee-arc reads it.
- OBX-3 ``59776-5^Procedure findings^LN`` as TX, for receivers that show text alone: so other makers
  of AI results send them after RD.

Each finding is a CWE (present, absent or undetermined, with OBX-8 A if present) and its probability
in percent, an NM; OBX-4 holds the two together. Everything is preliminary (OBX-11 P), no person is
named as responsible (OBX-16 is empty), and an NTE says that nobody has verified it. A receiver that
files results by order number must keep these apart from a radiologist's report, by MSH-3.

hl7apy holds the message to the structure and data types of v2.5.1. It keeps an escape sequence that
it finds in a value, so that text such as ``\F\`` would change its meaning, and lets line breaks
through; therefore values are escaped here (HL7 v2.5.1 Section 2.7), and control characters become
spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Message as Hl7Message
from hl7apy.exceptions import HL7apyException

from db.schema import AnalysisState, Presence
from db.told import Told, ToldFinding

from ..errors import NotifyError
from .message import UNVERIFIED, Issuer, Message
from .names import person_names
from .settings import NotifySettings

VERSION = "2.5.1"
CODECS = {"UNICODE UTF-8": "utf-8", "8859/1": "iso-8859-1"}
_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_PRESENCE = {
    Presence.PRESENT.value: ("52101004", "Present"),
    Presence.ABSENT.value: ("272519000", "Absent"),
    Presence.UNDETERMINED.value: ("373068000", "Undetermined"),
}
_SEX = {"M": "M", "F": "F", "O": "O"}
_DATE = re.compile(r"\d{8}")
_TIME = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d(?:\.\d{1,6})?)?)?")
_OFFSET = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d")
# What LO holds (PS3.5 Section 6.2); with every character escaped it still fits into an ST.
_LONGEST = 64
_ANY_PROCEDURE = "18748-4^Diagnostic imaging study^LN"


def encode(message: Message, settings: NotifySettings) -> bytes:
    """Return the message in its character set, byte for byte the same at every attempt.

    Raises
    ------
    NotifyError
        If it cannot be written so that it names the right patient.
    """
    if not escape(message.told.patient_id or ""):
        raise NotifyError(
            "the images carry no Patient ID, without which an HL7 message says of nobody: correct "
            "the study, then retry",
            lasting=True,
        )
    codec = CODECS[settings.encoding]
    try:
        built = _build(message, settings, codec)
        built.validate()
        text: str = built.to_er7()
        return f"{text}\r".encode(codec)
    except HL7apyException as error:
        raise NotifyError(
            f"the analysis cannot be written in HL7 v{VERSION}: {type(error).__name__}",
            lasting=True,
        ) from None
    except UnicodeEncodeError:
        raise NotifyError(
            f"the patient's identification has characters that {settings.encoding} lacks; set "
            'encoding = "UNICODE UTF-8"',
            lasting=True,
        ) from None


def escape(text: str) -> str:
    """Return a text for a field: separators as escape sequences, control characters as spaces.

    Spaces around it never count in DICOM, and hl7apy drops a value of spaces alone.
    """
    plain = "".join(" " if unicodedata.category(one) in ("Cc", "Zl", "Zp") else one for one in text)
    return "".join(_ESCAPES.get(one, one) for one in plain.strip())


def _build(message: Message, settings: NotifySettings, codec: str) -> Any:
    built = Hl7Message("ORU_R01", version=VERSION, validation_level=VALIDATION_LEVEL.STRICT)
    _header(built.msh, message, settings)
    result = built.add_group("ORU_R01_PATIENT_RESULT")
    patient = result.add_group("ORU_R01_PATIENT").add_segment("PID")
    _patient(patient, message, settings, codec)
    order = result.add_group("ORU_R01_ORDER_OBSERVATION")
    _order(order, message, codec)
    note = order.add_segment("NTE")
    note.nte_1 = "1"
    note.nte_3 = escape(f"TEST. {UNVERIFIED}" if message.is_test else UNVERIFIED)
    for number, fields in enumerate(_observations(message), 1):
        segment = order.add_group("ORU_R01_OBSERVATION").add_segment("OBX")
        segment.obx_1 = str(number)
        for field, value in sorted(fields.items()):
            for repetition in (value,) if isinstance(value, str) else value:
                segment.add_field(f"OBX_{field}").value = repetition
    return built


def _header(msh: Any, message: Message, settings: NotifySettings) -> None:
    msh.msh_3 = settings.sending_application
    msh.msh_4 = settings.sending_facility
    msh.msh_5 = settings.receiving_application
    msh.msh_6 = settings.receiving_facility
    msh.msh_7 = _moment(message.told.finished_at)
    msh.msh_9 = "ORU^R01^ORU_R01"
    msh.msh_10 = message.identifier
    msh.msh_11 = "T" if message.is_test else "P"
    msh.msh_18 = settings.encoding


def _patient(pid: Any, message: Message, settings: NotifySettings, codec: str) -> None:
    told = message.told
    corrected = told.issuer_of_patient_id
    issuer = message.order.issuer if corrected is None else Issuer(corrected)
    if issuer == Issuer():
        issuer = Issuer(settings.assigning_authority)
    authority = "&".join(map(escape, (issuer.local, issuer.universal, issuer.universal_type)))
    pid.pid_1 = "1"
    pid.pid_3 = f"{escape(told.patient_id or '')}^^^{authority.rstrip('&')}^PI"
    for name in person_names(told.patient_name or "", codec, escape):
        pid.add_field("PID_5").value = name
    if _DATE.fullmatch(told.patient_birth_date or ""):
        pid.pid_7 = told.patient_birth_date
    pid.pid_8 = _SEX.get(told.patient_sex or "", "U")


def _order(group: Any, message: Message, codec: str) -> None:
    told, order = message.told, message.order
    placer = escape(order.placer_number)
    accession = escape(told.accession_number or "")
    filler = escape(order.filler_number) or accession or told.analysis_id[:12]
    orc = group.add_segment("ORC")
    orc.orc_1 = "RE"
    obr = group.add_segment("OBR")
    obr.obr_1 = "1"
    if placer:
        orc.orc_2 = obr.obr_2 = placer
    orc.orc_3 = obr.obr_3 = filler
    obr.obr_4 = _procedure(message, codec)
    if taken := _study_moment(message):
        obr.obr_7 = taken
    if accession:
        obr.obr_18 = accession
    obr.obr_22 = _moment(told.finished_at)
    obr.obr_24 = "RAD"
    obr.obr_25 = "P"


def _procedure(message: Message, codec: str) -> str:
    """Return what was done; words that the character set lacks are not worth losing a finding."""
    code = message.order.procedure
    if code is not None:
        parts: Sequence[str] = (code.value, code.meaning, code.scheme)
    elif escape(message.told.study_description or ""):
        parts = ("", message.told.study_description or "")
    else:
        return _ANY_PROCEDURE
    return "^".join(
        escape(part.encode(codec, "replace").decode(codec)[:_LONGEST]) for part in parts
    )


def _observations(message: Message) -> Iterator[dict[int, str | Sequence[str]]]:
    told = message.told
    yield {2: "ST", 3: "113014^DICOM Study^DCM", 5: told.study_instance_uid, 11: "O"}
    common: dict[int, str | Sequence[str]] = {
        18: escape(f"{told.model_name} {told.model_version}"[:_LONGEST]),
        19: _moment(told.finished_at),
    }
    if told.sr_sop_instance_uid is not None:
        yield {2: "HD", 3: "^SR Instance UID", 5: told.sr_sop_instance_uid, 11: "P", **common}
    for number, finding in enumerate(told.findings, 1):
        yield from ({**one, **common} for one in _finding(finding, number))
    # X: no result can be obtained (HL7 Table 0085).
    status = "P" if told.state == AnalysisState.DONE else "X"
    said = tuple(escape(line) for line in _lines(told, is_test=message.is_test))
    yield {2: "TX", 3: "59776-5^Procedure findings^LN", 5: said, 11: status, **common}


def _finding(finding: ToldFinding, number: int) -> Iterator[dict[int, str | Sequence[str]]]:
    code = (finding.code_value, finding.code_meaning, finding.code_scheme)
    value, meaning = _PRESENCE[finding.presence]
    said: dict[int, str | Sequence[str]] = {
        2: "CWE",
        3: "^".join(map(escape, code)),
        4: str(number),
        5: f"{value}^{meaning}^SCT",
        11: "P",
    }
    if finding.presence == Presence.PRESENT:
        said[8] = "A"
    yield said
    yield {
        2: "NM",
        3: "122157^Probability^DCM",
        4: str(number),
        5: _percent(finding),
        6: "%^Percent^UCUM",
        11: "P",
    }


def _lines(told: Told, *, is_test: bool) -> Iterator[str]:
    yield f"TEST. {UNVERIFIED}" if is_test else UNVERIFIED
    if told.state != AnalysisState.DONE:
        ended = "not analysed" if told.state == AnalysisState.NOT_ANALYSED else told.state
        yield f"{told.model_name}: {ended} ({told.reason_code or 'no reason known'})"
    for one in told.findings:
        yield f"{one.code_meaning}: {one.presence} ({_percent(one)} %)"


def _percent(finding: ToldFinding) -> str:
    return f"{100 * finding.probability:.1f}"


def _moment(time: datetime) -> str:
    """Return a time as DTM in UTC, to the millisecond (HL7 v2.5.1 Section 2.A.22)."""
    return f"{time.astimezone(UTC):%Y%m%d%H%M%S}.{time.microsecond // 1000:03d}+0000"


def _study_moment(message: Message) -> str:
    """Return Study Date and Time as DTM, as exactly as they are known; DTM has four decimals."""
    date, time = message.told.study_date or "", message.order.study_time
    if not _DATE.fullmatch(date):
        return ""
    if not _TIME.fullmatch(time) or len(time) < 4:
        return date
    offset = message.order.utc_offset
    return f"{date}{time[:11]}{offset if _OFFSET.fullmatch(offset) else ''}"
