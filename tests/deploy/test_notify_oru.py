"""The HL7 message: what it says, that nothing in a name breaks it, and the answers to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from receivers import acknowledgment, fields

from db import FileStore
from db.told import Told, ToldFinding
from deploy.errors import NotifyError
from deploy.notify.message import Issuer, Message, Order, order_of, read_order, test_message
from deploy.notify.mllp import accepted
from deploy.notify.oru import encode, escape
from deploy.notify.settings import NotifySettings

test_message.__test__ = False  # type: ignore[attr-defined]
FINISHED = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)
TOLD = replace(
    test_message(FINISHED).told,
    study_instance_uid="1.2.3", sr_sop_instance_uid="2.25.7", patient_id="P-1",
    patient_name="Doe^Jane^Q^Dr^Jr", patient_birth_date="19700102", patient_sex="F",
    accession_number="ACC1", study_date="20260501", study_description="CT head",
    model_name="hemorrhage", model_version="1.0",
    findings=(
        ToldFinding("any", "1386000", "SCT", "Intracranial hemorrhage", "series", "Present", 0.934),
        ToldFinding("sub", "35486000", "SCT", "Subdural", "series", "Absent", 0.02),
    ),
)  # fmt: skip
ORDER = Order(
    issuer=Issuer("HOSP", "1.2.9", "ISO"), placer_number="PL1", filler_number="FI1",
    study_time="113000.25", utc_offset="+0200",
)  # fmt: skip


def target(**changes: Any) -> NotifySettings:
    defaults = {"name": "ris", "kind": "hl7", "host": "127.0.0.1", "port": 1}
    return NotifySettings.model_validate({**defaults, **changes})


def message(told: Told = TOLD, order: Order = ORDER) -> Message:
    return Message("7-ABC", told, order)


def test_a_message_says_whose_finding_it_is_and_what_was_found() -> None:
    settings = target(receiving_application="RIS", receiving_facility="H")
    sent = encode(message(), settings)
    (msh,), (pid,), (orc,), (obr,) = (fields(sent, name) for name in ("MSH", "PID", "ORC", "OBR"))
    assert msh[2:13] == [
        "^~\\&", "PREREAD", "", "RIS", "H", "20260501123015.123+0000", "", "ORU^R01^ORU_R01",
        "7-ABC", "P", "2.5.1",
    ]  # fmt: skip
    assert msh[18] == "UNICODE UTF-8"
    assert pid[3] == "P-1^^^HOSP&1.2.9&ISO^PI"
    assert pid[5] == "Doe^Jane^Q^Jr^Dr^^L^A", "suffix and prefix change places"
    assert pid[7:9] == ["19700102", "F"]
    assert orc[1:4] == ["RE", "PL1", "FI1"]
    assert (obr[2], obr[3], obr[4], obr[18], obr[25]) == ("PL1", "FI1", "^CT head", "ACC1", "P")
    assert obr[7] == "20260501113000.25+0200"
    observations = [
        (one[2], one[3], one[4], one[5], one[8], one[11]) for one in fields(sent, "OBX")
    ]
    assert observations[:6] == [
        ("ST", "113014^DICOM Study^DCM", "", "1.2.3", "", "O"),
        ("HD", "^SR Instance UID", "", "2.25.7", "", "P"),
        ("CWE", "1386000^Intracranial hemorrhage^SCT", "1", "52101004^Present^SCT", "A", "P"),
        ("NM", "122157^Probability^DCM", "1", "93.4", "", "P"),
        ("CWE", "35486000^Subdural^SCT", "2", "272519000^Absent^SCT", "", "P"),
        ("NM", "122157^Probability^DCM", "2", "2.0", "", "P"),
    ]
    assert observations[6][0] == "TX"
    assert "Intracranial hemorrhage: Present (93.4 %)" in observations[6][3]
    assert [one[1] for one in fields(sent, "OBX")] == [str(number) for number in range(1, 8)]
    assert all(one[16] == "" for one in fields(sent, "OBX")[1:]), "nobody is responsible"
    assert "unverified" in fields(sent, "NTE")[0][3]
    parse_message(sent.decode(), validation_level=VALIDATION_LEVEL.STRICT).validate()
    assert encode(message(), settings) == sent


def test_without_order_numbers_the_accession_number_fills_in_and_then_the_analysis() -> None:
    bare = encode(message(order=Order()), target(assigning_authority="HERE"))
    assert fields(bare, "OBR")[0][2:4] == ["", "ACC1"]
    assert fields(bare, "PID")[0][3] == "P-1^^^HERE^PI"
    assert fields(bare, "OBR")[0][7] == "20260501"
    nothing = replace(TOLD, accession_number=None, study_description=None, study_date=None)
    sent = encode(message(nothing, Order()), target())
    assert fields(sent, "OBR")[0][3:5] == ["0" * 12, "18748-4^Diagnostic imaging study^LN"]
    assert fields(sent, "OBR")[0][18] == ""
    assert fields(sent, "PID")[0][3] == "P-1^^^^PI"


def test_a_corrected_issuer_is_named_instead_of_that_of_the_images() -> None:
    sent = encode(message(replace(TOLD, issuer_of_patient_id="MERGED")), target())
    assert fields(sent, "PID")[0][3] == "P-1^^^MERGED^PI"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            "Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P",
        ),
        ("Hong^Gildong=洪^吉洞=홍^길동", "Hong^Gildong^^^^^L^A~洪^吉洞^^^^^L^I~홍^길동^^^^^L^P"),
        ("=山田^太郎", "山田^太郎^^^^^L^I"),
        ("Müller^Jörg", "Müller^Jörg^^^^^L^A"),
        ("A|B&C~D\\F\\^x\ry", "A\\F\\B\\T\\C\\R\\D\\E\\F\\E\\^x y^^^^^L^A"),
        ("^^", "^^^^^^U"),
        (None, "^^^^^^U"),
    ],
)
def test_names(name: str | None, expected: str) -> None:
    sent = encode(message(replace(TOLD, patient_name=name)), target())
    assert fields(sent, "PID")[0][5] == expected
    assert len(fields(sent, "OBX")) == 7


def test_latin_1_names_what_it_can_and_refuses_what_would_name_another() -> None:
    latin = target(encoding="8859/1")
    both = replace(TOLD, patient_name="Müller^Jörg=山田", study_description="頭部 CT")
    sent = encode(message(both), latin)
    assert fields(sent, "PID", "iso-8859-1")[0][5] == "Müller^Jörg^^^^^L^A"
    assert fields(sent, "OBR", "iso-8859-1")[0][4] == "^?? CT"
    assert fields(sent, "MSH", "iso-8859-1")[0][18] == "8859/1"
    with pytest.raises(NotifyError, match="UTF-8") as refused:
        encode(message(replace(TOLD, patient_name="=山田")), latin)
    assert refused.value.lasting
    assert "山" not in refused.value.in_full


def test_without_a_patient_id_nothing_is_said() -> None:
    with pytest.raises(NotifyError, match="Patient ID") as refused:
        encode(message(replace(TOLD, patient_id=None)), target())
    assert refused.value.lasting


def test_long_words_are_cut_between_characters_and_never_within_an_escape_sequence() -> None:
    told = replace(TOLD, study_description="|" * 1024, model_name="m~" * 60)
    sent = encode(message(told, Order()), target())
    assert unescaped(fields(sent, "OBR")[0][4].split("^")[1]) == "|" * 64
    assert unescaped(fields(sent, "OBX")[-1][18]) == "m~" * 32


def test_an_identifier_that_hl7_cannot_hold_is_never_cut() -> None:
    told = replace(TOLD, patient_id="1" * 256)
    try:
        sent = encode(message(told), target())
    except NotifyError as refused:
        assert refused.lasting
        assert "111" not in refused.in_full
    else:
        assert fields(sent, "PID")[0][3].startswith("1" * 256 + "^")


def test_what_was_not_analysed_says_so() -> None:
    told = replace(TOLD, state="not_analysed", reason_code="too_few_slices", findings=())
    last = fields(encode(message(told), target()), "OBX")[-1]
    assert (last[2], last[11]) == ("TX", "X")
    assert "not analysed (too_few_slices)" in last[5]


def test_a_test_is_marked_as_one() -> None:
    sent = encode(test_message(FINISHED), target())
    assert fields(sent, "MSH")[0][11] == "T"
    assert fields(sent, "PID")[0][3].startswith("PREREAD-TEST^")
    assert fields(sent, "NTE")[0][3].startswith("TEST. ")


TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)


@given(TEXT, TEXT, TEXT)
@settings(max_examples=40, deadline=None)
def test_no_text_breaks_out_of_its_field(patient_id: str, name: str, procedure: str) -> None:
    told = replace(
        TOLD,
        patient_id=patient_id,
        patient_name=name.replace("=", "-").replace("^", "-"),
        study_description=procedure,
    )
    if not escape(patient_id):
        with pytest.raises(NotifyError, match="Patient ID"):
            encode(message(told, Order()), target())
        return
    sent = encode(message(told, Order()), target())
    assert [line[:3] for line in sent.decode().split("\r")] == [
        "MSH", "PID", "ORC", "OBR", "NTE", *["OBX"] * 7, "",
    ]  # fmt: skip
    (pid,), (obr,) = fields(sent, "PID"), fields(sent, "OBR")
    assert unescaped(pid[3].split("^")[0]) == as_one_line(patient_id)
    assert unescaped(obr[4].split("^")[1]) == (as_one_line(procedure) or "Diagnostic imaging study")
    assert obr[25] == "P"


def as_one_line(text: str) -> str:
    return unescaped(escape(text))


def unescaped(text: str) -> str:
    out, rest = "", text
    letters = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}
    while rest:
        if rest[0] == "\\":
            out += letters[rest[1]]
            assert rest[2] == "\\"
            rest = rest[3:]
        else:
            assert rest[0] not in "|^&~\r\n"
            out, rest = out + rest[0], rest[1:]
    return out


def test_what_an_image_says_of_its_order() -> None:
    image = Dataset()
    image.IssuerOfPatientID = "HOSP"
    qualifiers, request, code = Dataset(), Dataset(), Dataset()
    qualifiers.UniversalEntityID, qualifiers.UniversalEntityIDType = "1.2.9", "ISO"
    image.IssuerOfPatientIDQualifiersSequence = [qualifiers]
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTH", "99H", "Head"
    request.PlacerOrderNumberImagingServiceRequest = "PL1"
    request.RequestedProcedureCodeSequence = [code]
    image.RequestAttributesSequence = [request]
    image.FillerOrderNumberImagingServiceRequest = "FI1"
    order = order_of(image)
    assert order.issuer == Issuer("HOSP", "1.2.9", "ISO")
    assert (order.placer_number, order.filler_number) == ("PL1", "FI1")
    sent = encode(message(order=order), target())
    assert fields(sent, "OBR")[0][4] == "CTH^Head^99H"
    assert order_of(Dataset()) == Order()


def answer(code: str, **how: Any) -> str:
    framed = acknowledgment(encode(message(), target()), code, **how)
    return framed[1:-2].decode()


@pytest.mark.parametrize("code", ["AA", "CA"])
def test_acceptance(code: str) -> None:
    assert accepted(answer(code), "7-ABC") == code
    # Receivers end lines with line feeds, leave fields out, use other separators and versions.
    assert accepted(f"MSH|^~\\&|||||||ACK||P|2.3\nMSA|{code}|7-ABC\n", "7-ABC") == code
    assert accepted(f"MSH$%~\\&$$$$$$$ACK%R01$1$P$2.5\rMSA${code}$7-ABC\r", "7-ABC") == code


@pytest.mark.parametrize("code", ["AE", "AR", "CE", "CR"])
def test_refusal_keeps_the_receivers_words_from_the_log(code: str) -> None:
    with pytest.raises(NotifyError) as refused:
        accepted(answer(code, text="unknown patient DOE"), "7-ABC")
    assert refused.value.status == code
    assert not refused.value.lasting
    assert "DOE" not in str(refused.value)
    assert "unknown patient DOE" in refused.value.in_full


def test_an_answer_to_another_message_accepts_nothing() -> None:
    with pytest.raises(NotifyError, match="another message"):
        accepted(answer("AA", control_id="6-ABC"), "7-ABC")


@given(
    st.text(max_size=60) | st.text(max_size=40).map(lambda text: f"MSH|^~\\&|{text}\rMSA|{text}")
)
@settings(max_examples=200, deadline=None)
def test_garbage_accepts_nothing(text: str) -> None:
    with pytest.raises(NotifyError):
        accepted(text, "7-ABC")


@pytest.mark.parametrize("keyword", ["RequestAttributesSequence", "ProcedureCodeSequence"])
def test_a_sequence_that_is_none_does_not_lose_the_message(tmp_path: Path, keyword: str) -> None:
    files = FileStore(tmp_path)
    files.prepare()
    image = Dataset()
    image.SOPInstanceUID = "1.2.3"
    image[keyword] = DataElement(keyword, "US", 7)
    image.save_as(tmp_path / "odd.dcm", implicit_vr=False, little_endian=True)
    told = replace(TOLD, image_path="odd.dcm")
    assert read_order(files, told) == Order()
