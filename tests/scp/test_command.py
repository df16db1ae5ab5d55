"""Command sets, compared with pydicom's and pynetdicom's reading of them."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom.dimse_messages import (
    C_STORE_RQ,
    C_STORE_RSP,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    N_EVENT_REPORT_RSP,
)
from pynetdicom.dimse_primitives import C_STORE, N_ACTION, N_EVENT_REPORT
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import P_DATA_TF

from scp.errors import ProtocolError
from scp.transport.command import (
    Command,
    Notice,
    Outcome,
    event_report,
    p_data,
    read_command,
    response,
)

uids = st.lists(st.integers(0, 10**9), min_size=2, max_size=5).map(
    lambda parts: "1." + ".".join(map(str, parts))
)
commands = st.builds(
    Command, st.just(1), st.integers(0, 0xFFFF), uids, uids, has_data_set=st.just(True)
)
outcomes = st.builds(
    Outcome,
    st.integers(0, 0xFFFF),
    st.text(st.sampled_from("abcXYZ019()+,. -_:/"), max_size=64).map(str.strip),
    st.lists(st.integers(0x00080000, 0x7FE00010), max_size=3).map(tuple),
)


def as_data_set(command_set: bytes) -> Dataset:
    return decode(BytesIO(command_set), True, True)


@settings(deadline=None)
@given(commands, outcomes)
def test_pydicom_reads_a_response_as_it_was_meant(command: Command, outcome: Outcome) -> None:
    encoded = response(command, outcome)
    read = as_data_set(encoded)

    assert read.CommandGroupLength == len(encoded) - 12
    assert read.CommandField == 0x8001
    assert read.MessageIDBeingRespondedTo == command.message_id
    assert read.CommandDataSetType == 0x0101
    assert read.Status == outcome.status
    assert read.AffectedSOPClassUID == command.sop_class_uid
    assert read.AffectedSOPInstanceUID == command.sop_instance_uid
    assert read.get("ErrorComment", "") == outcome.comment
    offending = read.get("OffendingElement", [])
    tags = [int(offending)] if isinstance(offending, int) else [int(tag) for tag in offending]
    assert tags == list(outcome.offending)
    assert list(read.keys()) == sorted(read.keys())


def test_a_response_is_byte_for_byte_that_of_pynetdicom() -> None:
    command = Command(1, 7, "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", has_data_set=True)
    primitive = C_STORE()
    primitive.MessageIDBeingRespondedTo = 7
    primitive.AffectedSOPClassUID = command.sop_class_uid
    primitive.AffectedSOPInstanceUID = command.sop_instance_uid
    primitive.Status = 0
    message = C_STORE_RSP()
    message.primitive_to_message(primitive)

    assert response(command, Outcome(0)) == encode(message.command_set, True, True)


@settings(deadline=None)
@given(st.integers(0, 0xFFFF), uids, uids, st.booleans())
def test_a_request_of_pynetdicom_is_read(
    message_id: int, sop_class: str, instance: str, has_data_set: bool
) -> None:
    primitive = C_STORE()
    primitive.MessageID = message_id
    primitive.AffectedSOPClassUID = sop_class
    primitive.AffectedSOPInstanceUID = instance
    primitive.Priority = 2
    primitive.DataSet = BytesIO(b"x") if has_data_set else None
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)

    command = read_command(encode(message.command_set, True, True) or b"")

    assert (command.field, command.message_id) == (1, message_id)
    assert (command.sop_class_uid, command.sop_instance_uid) == (sop_class, instance)
    assert command.has_data_set == has_data_set


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_command_or_a_protocol_error(data: bytes) -> None:
    try:
        read_command(data)
    except ProtocolError:
        return


@pytest.mark.parametrize("max_pdu", [0, 7, 20, 64, 128, 16384])
def test_a_response_is_cut_to_what_the_peer_receives(max_pdu: int) -> None:
    command = Command(1, 7, "1.2.3", "1.2.3.4", has_data_set=True)
    encoded = response(command, Outcome(0xA700, "Disk full", (0x00080018,)))

    values = []
    for pdu in p_data(5, encoded, max_pdu):
        assert not max_pdu or len(pdu) - 6 <= max(max_pdu, 128)
        decoded = P_DATA_TF()
        decoded.decode(pdu)
        values += decoded.presentation_data_value_items

    assert b"".join(one.presentation_data_value[1:] for one in values) == encoded
    assert {one.presentation_context_id for one in values} == {5}
    assert [one.presentation_data_value[0] for one in values] == [1] * (len(values) - 1) + [3]


@settings(deadline=None)
@given(st.integers(0, 0xFFFF), uids, st.integers(1, 9))
def test_requests_of_storage_commitment(message_id: int, instance: str, kind: int) -> None:
    """N-ACTION names what it acts on in elements of its own (PS3.7 Section 10.3.5.1)."""
    action = N_ACTION()
    action.MessageID, action.ActionTypeID = message_id, kind
    action.RequestedSOPClassUID = "1.2.840.10008.1.20.1"
    action.RequestedSOPInstanceUID = instance
    action.ActionInformation = BytesIO(b"x")
    message = N_ACTION_RQ()
    message.primitive_to_message(action)
    read = read_command(encode(message.command_set, True, True) or b"")
    assert isinstance(read, Notice)
    assert (read.field, read.message_id, read.type_id) == (0x0130, message_id, kind)
    assert (read.sop_class_uid, read.sop_instance_uid) == ("1.2.840.10008.1.20.1", instance)
    assert read.has_data_set and read.is_request


def test_a_report_is_byte_for_byte_that_of_pynetdicom() -> None:
    primitive = N_EVENT_REPORT()
    primitive.MessageID, primitive.EventTypeID = 7, 2
    primitive.AffectedSOPClassUID = "1.2.840.10008.1.20.1"
    primitive.AffectedSOPInstanceUID = "1.2.840.10008.1.20.1.1"
    primitive.EventInformation = BytesIO(b"x")
    message = N_EVENT_REPORT_RQ()
    message.primitive_to_message(primitive)
    expected = encode(message.command_set, True, True)
    assert event_report(7, "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1", 2) == expected

    primitive = N_EVENT_REPORT()
    primitive.MessageIDBeingRespondedTo, primitive.Status = 7, 0x0110
    answer = N_EVENT_REPORT_RSP()
    answer.primitive_to_message(primitive)
    read = read_command(encode(answer.command_set, True, True) or b"")
    assert isinstance(read, Notice)
    assert (read.responds_to, read.status, read.is_request) == (7, 0x0110, False)


def test_a_command_set_that_is_a_file_is_refused() -> None:
    buffer = BytesIO()
    image = Dataset()
    image.PatientID = "PHANTOM-1"
    image.save_as(buffer, implicit_vr=True, little_endian=True)
    assert dcmread(BytesIO(buffer.getvalue()), force=True).PatientID == "PHANTOM-1"

    with pytest.raises(ProtocolError):
        read_command(buffer.getvalue())
