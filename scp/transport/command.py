"""Command sets: those of storage, verification and storage commitment (PS3.7 Annex E).

A command set is always Implicit VR Little Endian (PS3.7 Section 6.3.1), a dozen short elements.
pydicom takes a hundred times as long to read one, and that for every image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct, error, pack

from ..errors import ProtocolError

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
N_EVENT_REPORT_RQ = 0x0100
N_ACTION_RQ = 0x0130
C_CANCEL_RQ = 0x0FFF
_RESPONSE = 0x8000
N_EVENT_REPORT_RSP = N_EVENT_REPORT_RQ | _RESPONSE
# Command elements (PS3.7 Annex E), by element number within group 0000.
AFFECTED_SOP_CLASS_UID = 0x0002
REQUESTED_SOP_CLASS_UID = 0x0003
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
DATA_SET_TYPE = 0x0800
STATUS = 0x0900
OFFENDING_ELEMENT = 0x0901
ERROR_COMMENT = 0x0902
AFFECTED_SOP_INSTANCE_UID = 0x1000
REQUESTED_SOP_INSTANCE_UID = 0x1001
EVENT_TYPE_ID = 0x1002
ACTION_TYPE_ID = 0x1008
_GROUP_LENGTH = 0x0000

_NO_DATA_SET = 0x0101
_A_DATA_SET = 0x0001
# Of these requests the data set is wanted, beside C-STORE's, and the type of action or event.
_TYPE_OF = {N_EVENT_REPORT_RQ: EVENT_TYPE_ID, N_ACTION_RQ: ACTION_TYPE_ID}
# Smaller PDUs than these are only asked for to make many of a short response.
_LEAST_PDU = 128
_MAX_UID = 64
_ELEMENT = Struct("<HHL")
_SHORT = Struct("<H")
_P_DATA = Struct(">BBLLBB")


@dataclass(slots=True)  # not frozen: one is made for every image, and freezing is slow
class Command:
    """A request, as far as it concerns the transport.

    Attributes
    ----------
    field : int
        Command Field (0000,0100).
    message_id : int
        Message ID (0000,0110); -1 without one.
    sop_class_uid, sop_instance_uid : str
        Affected SOP Class UID and SOP Instance UID; empty without one.
    has_data_set : bool
        Whether a data set follows (Command Data Set Type).
    """

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool

    @property
    def is_request(self) -> bool:
        """Whether it wants a response: it is none itself, nor C-CANCEL (PS3.7 Section 9.3.2.3)."""
        return not self.field & _RESPONSE and self.field != C_CANCEL_RQ and self.message_id >= 0


@dataclass(slots=True)
class Notice(Command):
    """A request or response of N-ACTION or N-EVENT-REPORT (PS3.7 Sections 10.3.1 and 10.3.5).

    Attributes
    ----------
    type_id : int
        Action or Event Type ID of a request; -1 without one.
    responds_to : int
        Message ID Being Responded To of a response; -1 without one.
    status : int
        Status of a response; -1 without one.
    """

    type_id: int = -1
    responds_to: int = -1
    status: int = -1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a response says.

    Attributes
    ----------
    status : int
        Status (0000,0900).
    comment : str
        Error Comment (0000,0902), at most 64 characters of ASCII; empty for none.
    offending : tuple of int
        Offending Element (0000,0901), as group << 16 | element.
    """

    status: int
    comment: str = ""
    offending: tuple[int, ...] = ()


def read_command(data: bytes | bytearray) -> Command:
    """Read a command set.

    Raises
    ------
    ProtocolError
        If it is none.
    """
    elements = _elements(data)
    field = _number(elements, COMMAND_FIELD)
    if field in _TYPE_OF or field == N_EVENT_REPORT_RSP:
        return _notice(elements, field)
    return Command(
        field=field,
        message_id=_number(elements, MESSAGE_ID),
        sop_class_uid=_uid(elements, AFFECTED_SOP_CLASS_UID),
        sop_instance_uid=_uid(elements, AFFECTED_SOP_INSTANCE_UID),
        has_data_set=_number(elements, DATA_SET_TYPE) != _NO_DATA_SET,
    )


def _notice(elements: Mapping[int, bytes], field: int) -> Notice:
    """Read what is no C-STORE; the SOP that is acted on has elements of its own."""
    is_action = field == N_ACTION_RQ
    sop_class = REQUESTED_SOP_CLASS_UID if is_action else AFFECTED_SOP_CLASS_UID
    instance = REQUESTED_SOP_INSTANCE_UID if is_action else AFFECTED_SOP_INSTANCE_UID
    return Notice(
        field=field,
        message_id=_number(elements, MESSAGE_ID),
        sop_class_uid=_uid(elements, sop_class),
        sop_instance_uid=_uid(elements, instance),
        has_data_set=_number(elements, DATA_SET_TYPE) != _NO_DATA_SET,
        type_id=_number(elements, _TYPE_OF.get(field, EVENT_TYPE_ID)),
        responds_to=_number(elements, MESSAGE_ID_BEING_RESPONDED_TO),
        status=_number(elements, STATUS),
    )


def event_report(message_id: int, sop_class_uid: str, sop_instance_uid: str, event: int) -> bytes:
    """Return the command set of an N-EVENT-REPORT request (PS3.7 Section 10.3.1.1)."""
    elements = b"".join(
        _element(tag, value)
        for tag, value in (
            (AFFECTED_SOP_CLASS_UID, _uid_value(sop_class_uid)),
            (COMMAND_FIELD, _SHORT.pack(N_EVENT_REPORT_RQ)),
            (MESSAGE_ID, _SHORT.pack(message_id)),
            (DATA_SET_TYPE, _SHORT.pack(_A_DATA_SET)),
            (AFFECTED_SOP_INSTANCE_UID, _uid_value(sop_instance_uid)),
            (EVENT_TYPE_ID, _SHORT.pack(event)),
        )
    )
    return _element(_GROUP_LENGTH, pack("<L", len(elements))) + elements


def response(command: Command, outcome: Outcome) -> bytes:
    """Return the command set that answers `command` (PS3.7 Sections 9.3.1.2 and 9.3.5.2)."""
    instance = _element(AFFECTED_SOP_INSTANCE_UID, _uid_value(command.sop_instance_uid))
    before, after = _around_message_id(
        _uid_value(command.sop_class_uid), command.field, outcome, len(instance)
    )
    return b"%b%b%b%b" % (before, _SHORT.pack(command.message_id), after, instance)


@lru_cache(maxsize=256)  # for an association that stores images it is always the same
def _around_message_id(
    sop_class: bytes, field: int, outcome: Outcome, n_instance: int
) -> tuple[bytes, bytes]:
    """Return what stands before the value of the Message ID, and between it and the instance."""
    before = [
        (AFFECTED_SOP_CLASS_UID, sop_class),
        (COMMAND_FIELD, _SHORT.pack(field | _RESPONSE)),
        (MESSAGE_ID_BEING_RESPONDED_TO, bytes(_SHORT.size)),
    ]
    after = [(DATA_SET_TYPE, _SHORT.pack(_NO_DATA_SET)), (STATUS, _SHORT.pack(outcome.status))]
    if outcome.offending:
        tags = b"".join(pack("<HH", tag >> 16, tag & 0xFFFF) for tag in outcome.offending)
        after.append((OFFENDING_ELEMENT, tags))
    if outcome.comment:
        after.append((ERROR_COMMENT, _even(outcome.comment[:64], b" ")))
    start, end = (
        b"".join(_ELEMENT.pack(0, tag, len(value)) + value for tag, value in elements)
        for elements in (before, after)
    )
    length = pack("<L", len(start) + len(end) + n_instance)
    return _element(_GROUP_LENGTH, length) + start[: -_SHORT.size], end


def _uid_value(uid: str) -> bytes:
    """Return a UID as it is sent; what is too long to be one is not sent back."""
    return _even(uid, b"\0") if len(uid) <= _MAX_UID else b""


def _element(tag: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, tag, len(value)) + value if value else b""


def p_data(
    context_id: int, encoded: bytes, max_pdu: int, *, is_command: bool = True
) -> Iterator[bytes]:
    """Yield the P-DATA-TF PDUs of a command set or a data set (PS3.8 Section 9.3.5, Annex E.2).

    Parameters
    ----------
    max_pdu : int
        Largest PDU that the peer receives, without the PDU header (PS3.8 Section D.1); 0 is any.
    """
    step = max(max_pdu, _LEAST_PDU) - 6 if max_pdu else len(encoded)
    for at in range(0, len(encoded), step):
        part = encoded[at : at + step]
        control = is_command | (0b10 if at + step >= len(encoded) else 0)
        yield _P_DATA.pack(4, 0, len(part) + 6, len(part) + 2, context_id, control) + part


def _elements(data: bytes | bytearray) -> Mapping[int, bytes]:
    elements: dict[int, bytes] = {}
    at, end = 0, len(data)
    try:
        while at < end:
            group, element, length = _ELEMENT.unpack_from(data, at)
            value = at + 8
            at = value + length
            if group or at > end:
                raise ProtocolError("a command set holds what is no command element")
            elements[element] = bytes(data[value:at])
    except error:
        raise ProtocolError("a command set ends inside an element") from None
    return elements


def _number(elements: Mapping[int, bytes], tag: int) -> int:
    value = elements.get(tag, b"")
    return int(_SHORT.unpack(value)[0]) if len(value) == _SHORT.size else -1


def _uid(elements: Mapping[int, bytes], tag: int) -> str:
    return elements.get(tag, b"").decode("ascii", "replace").strip(" \0")


def _even(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    return value + padding if len(value) % 2 else value


__all__: Sequence[str] = (
    "Command",
    "Notice",
    "Outcome",
    "event_report",
    "p_data",
    "read_command",
    "response",
)
