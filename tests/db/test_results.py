"""From request to outcome, and what the views make of it, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from db.ingest import Ingest, InstanceRecord
from db.outcomes import (
    Destined,
    FindingRecord,
    MeasurementRecord,
    ObjectRecord,
    Outcome,
    record_outcome,
)
from db.query import Filter, analyses, findings, in_progress, is_known, rows_of
from db.results import (
    AnalysisRequest,
    latest_object,
    load,
    mark_started,
    reopen,
    request_analysis,
    still_pending,
)
from db.schema import Analysis, AnalysisState, Association, Presence, Scope

IMAGE = InstanceRecord(
    study_instance_uid="1.2",
    patient_id="P",
    patient_name="A^B",
    patient_birth_date=None,
    patient_sex=None,
    accession_number="ACC",
    study_date="20260101",
    study_description=None,
    series_instance_uid="1.2.1",
    modality="CT",
    series_number=1,
    series_description=None,
    body_part=None,
    sop_instance_uid="1.2.1.1",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    instance_number=1,
    path="images/00/1.dcm",
    size_bytes=1,
    sha256="0" * 64,
    received_at=datetime(2026, 1, 1, tzinfo=UTC),
    association_id="t" * 32,
)
REQUEST = AnalysisRequest(
    id="a" * 64,
    study_instance_uid="1.2",
    series_instance_uid="1.2.1",
    instance_ids=(1, 2),
    instance_digest="d" * 64,
    model_name="hemorrhage",
    model_version="1.0",
    weights_sha256="w" * 64,
    configuration_digest="c" * 64,
    priority="routine",
    shadow=False,
    trace_id="t" * 32,
    received_at=datetime(2026, 1, 1, 12, tzinfo=UTC),
)
SERIES = FindingRecord(
    label="any",
    code_value="1386000",
    code_scheme="SCT",
    code_meaning="Intracranial hemorrhage",
    scope=Scope.SERIES,
    sop_instance_uid=None,
    probability=0.7,
    threshold_low=0.3,
    threshold_high=0.6,
    presence=Presence.PRESENT,
    key_sop_instance_uid="1.2.1.2",
)
SLICE = replace(SERIES, scope=Scope.IMAGE, sop_instance_uid="1.2.1.2", probability=0.95)
REPORT = ObjectRecord(
    kind="sr",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
    sop_instance_uid="2.25.1",
    series_instance_uid="2.25.2",
    path="results/00/2.25.1.dcm",
    size_bytes=10,
    sha256="f" * 64,
    destinations=(Destined("pacs", 24), Destined("archive")),
)
DONE = Outcome(AnalysisState.DONE, (SERIES, SLICE), (REPORT,), facts={"spacing_mm": 5.0})


@pytest.fixture
def received(engine: sa.Engine) -> sa.Engine:
    ingest = Ingest(engine)
    for number in (1, 2):
        ingest.add(replace(IMAGE, sop_instance_uid=f"1.2.1.{number}"))
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE series SET state = 'complete'"))
    return engine


def request(engine: sa.Engine, asked: AnalysisRequest = REQUEST) -> bool:
    with engine.begin() as connection:
        return request_analysis(connection, asked)


def record(engine: sa.Engine, analysis_id: str, outcome: Outcome) -> bool:
    with engine.begin() as connection:
        return record_outcome(connection, analysis_id, outcome)


def state(engine: sa.Engine) -> str:
    with engine.connect() as connection:
        return rows_of(connection, "v_studies", order_by="received_at")[0]["state"]


def test_measurements_are_there_to_be_asked_for(received: sa.Engine) -> None:
    measured = MeasurementRecord("any", "118565006", "SCT", "Volume", 12.34, "ml")
    with received.begin() as connection:
        request_analysis(connection, REQUEST)
        assert record_outcome(connection, REQUEST.id, replace(DONE, measurements=(measured,)))
        assert not record_outcome(connection, REQUEST.id, replace(DONE, measurements=(measured,)))
        (row,) = connection.execute(sa.text("SELECT * FROM v_measurements")).mappings()
    assert (row["label"], row["quantity"], row["value"], row["unit"]) == (
        "any", "Volume", 12.34, "ml",
    )  # fmt: skip
    assert row["is_current"]
    assert row["patient_id"] is not None


def test_asking_twice_is_asking_once(received: sa.Engine) -> None:
    assert request(received)
    assert not request(received)
    with received.connect() as connection:
        asked = load(connection, REQUEST.id)
    assert asked is not None
    assert [image.sop_instance_uid for image in asked.images] == ["1.2.1.1", "1.2.1.2"]
    assert asked.version == 1


def test_other_images_make_the_next_version(received: sa.Engine) -> None:
    request(received)
    record(received, REQUEST.id, DONE)
    request(received, replace(REQUEST, id="b" * 64, instance_digest="e" * 64))
    with received.connect() as connection:
        later = load(connection, "b" * 64)
        assert later is not None
        assert (later.version, later.predecessor_id) == (2, REQUEST.id)
        assert latest_object(connection, later.predecessor_id, "sr") == REPORT.path
        assert [row["is_current"] for row in findings(connection, Filter())] == [True]
    record(received, "b" * 64, replace(DONE, objects=(), findings=(SERIES,)))
    with received.connect() as connection:
        current = {row["version"]: row["is_current"] for row in findings(connection, Filter())}
    assert current == {1: False, 2: True}


def test_a_newer_result_replaces_all_earlier_ones(received: sa.Engine) -> None:
    for number, state_ in enumerate((AnalysisState.DONE, AnalysisState.NOT_ANALYSED, "done")):
        asked = replace(REQUEST, id=f"{number}" * 64, instance_digest=f"{number}" * 64)
        request(received, asked)
        found = (SERIES,) if state_ == "done" else ()
        record(received, asked.id, Outcome(AnalysisState(state_), found))
    with received.connect() as connection:
        current = {row["version"]: row["is_current"] for row in findings(connection, Filter())}
    assert current == {1: False, 3: True}


def test_times_are_those_of_the_images_that_were_read(received: sa.Engine) -> None:
    request(received)
    record(received, REQUEST.id, DONE)
    with received.connect() as connection:
        before = analyses(connection, Filter())[0]
    Ingest(received).add(replace(IMAGE, received_at=datetime.now(UTC)))
    with received.connect() as connection:
        after = analyses(connection, Filter())[0]
    assert after == before
    assert after["received_at"] == REQUEST.received_at
    assert after["total_seconds"] > 0


def test_an_outcome_is_recorded_once(received: sa.Engine) -> None:
    request(received)
    assert record(received, REQUEST.id, DONE)
    assert not record(received, REQUEST.id, DONE)
    with received.connect() as connection:
        assert len(findings(connection, Filter(), every_scope=True)) == 2
        assert len(rows_of(connection, "v_deliveries", order_by="delivery_id")) == 2


def test_deliveries_have_the_deadlines_of_their_destinations(received: sa.Engine) -> None:
    request(received)
    record(received, REQUEST.id, DONE)
    with received.connect() as connection:
        rows = rows_of(connection, "v_deliveries", order_by="delivery_id")
    deadlines = {row["destination"]: row["deadline_at"] for row in rows}
    assert deadlines == {"archive": None, "pacs": rows[1]["created_at"] + timedelta(hours=24)}


def test_who_sent_the_images(received: sa.Engine) -> None:
    request(received)
    with received.begin() as connection:
        unknown = load(connection, REQUEST.id)
        connection.execute(
            sa.insert(Association).values(
                id="t" * 32, acceptor="a", calling_ae="CT1", called_ae="PREREAD",
                peer_host="127.0.0.1", peer_port=1, opened_at=datetime.now(UTC),
            )
        )  # fmt: skip
        known = load(connection, REQUEST.id)
    assert unknown is not None and known is not None
    assert (unknown.calling_ae, known.calling_ae) == (None, "CT1")


def test_the_first_start_is_kept(received: sa.Engine) -> None:
    request(received)
    with received.begin() as connection:
        first = mark_started(connection, REQUEST.id, "w1", "cpu")
    with received.begin() as connection:
        assert mark_started(connection, REQUEST.id, "w2", "cuda:0") == first
    with received.connect() as connection:
        row = analyses(connection, Filter())[0]
    assert (row["worker"], row["device"], row["first_started_at"]) == ("w2", "cuda:0", first)
    assert first.tzinfo is not None


def test_the_times_are_those_of_the_attempt_that_gave_the_outcome(received: sa.Engine) -> None:
    request(received)
    with received.connect() as connection:
        row = analyses(connection, Filter())[0]
    assert (row["attempts"], row["started_at"], row["retry_seconds"]) == (0, None, None)
    with received.begin() as connection:
        first = mark_started(connection, REQUEST.id, "w1", "cpu")
    with received.connect() as connection:
        row = analyses(connection, Filter())[0]
    assert (row["attempts"], row["started_at"], row["retry_seconds"]) == (1, first, 0)
    # The worker was killed, and a minute later another one began.
    minute = timedelta(minutes=1)
    with received.begin() as connection:
        connection.execute(sa.update(Analysis).values(started_at=first - minute))
    with received.begin() as connection:
        mark_started(connection, REQUEST.id, "w2", "cpu")
    record(received, REQUEST.id, DONE)
    with received.connect() as connection:
        row = analyses(connection, Filter())[0]
    assert (row["attempts"], row["first_started_at"]) == (2, first - minute)
    assert first <= row["started_at"] <= row["finished_at"]
    analysed = row["finished_at"] - row["started_at"]
    assert row["analyse_seconds"] == pytest.approx(analysed.total_seconds(), abs=0.01)
    retried = row["started_at"] - row["first_started_at"]
    assert retried >= minute
    assert row["retry_seconds"] == pytest.approx(retried.total_seconds(), abs=0.01)
    parts = ("wait", "queue", "retry", "analyse")
    assert sum(row[f"{part}_seconds"] for part in parts) == pytest.approx(
        (row["finished_at"] - row["received_at"]).total_seconds(), abs=0.01
    )


def test_a_slice_does_not_speak_for_its_study(received: sa.Engine) -> None:
    request(received)
    record(received, REQUEST.id, DONE)
    with received.connect() as connection:
        row = rows_of(connection, "v_studies", order_by="received_at")[0]
    assert (row["n_positive"], row["max_probability"]) == (1, pytest.approx(0.7))


def test_shadow_results_do_not_count(received: sa.Engine) -> None:
    request(received, replace(REQUEST, shadow=True))
    record(received, REQUEST.id, replace(DONE, objects=()))
    with received.connect() as connection:
        assert rows_of(connection, "v_studies", order_by="received_at")[0]["n_positive"] == 0
        assert findings(connection, Filter())[0]["shadow"] is True


def test_states_of_a_study(received: sa.Engine) -> None:
    assert state(received) == "parked"
    request(received)
    assert state(received) == "in progress"
    record(received, REQUEST.id, Outcome(AnalysisState.FAILED, reason_code="error", reason="r"))
    assert state(received) == "failed"
    with received.begin() as connection:
        assert reopen(connection, REQUEST.id)
    assert state(received) == "in progress"
    record(received, REQUEST.id, DONE)
    assert state(received) == "done"
    with received.begin() as connection:
        assert not reopen(connection, REQUEST.id)
        connection.execute(sa.text("UPDATE series SET state = 'open'"))
    assert state(received) == "receiving"


def test_questions(received: sa.Engine) -> None:
    request(received)
    with received.connect() as connection:
        assert in_progress(connection, Filter(study="1.2")) == 1
        assert in_progress(connection, Filter(study="other")) == 0
        assert is_known(connection, Filter(study="1.2"))
        assert not is_known(connection, Filter(study="other"))
        assert still_pending(connection, (REQUEST.id, "x")) == (REQUEST.id,)
    record(received, REQUEST.id, DONE)
    with received.connect() as connection:
        one = findings(connection, Filter())[0]
        assert one["sr_sop_instance_uid"] == "2.25.1"
        assert one["turnaround_seconds"] > 0
        assert one["received_at"].tzinfo is not None
        for matching in (
            Filter(patient="P"),
            Filter(model="hemorrhage"),
            Filter(finding="any"),
            Filter(since=datetime(2025, 12, 31, tzinfo=UTC)),
            Filter(min_probability=0.7),
            Filter(state="done"),
        ):
            assert len(findings(connection, matching)) == 1, matching
        for other in (
            Filter(patient="Q"),
            Filter(model="x"),
            Filter(finding="x"),
            Filter(since=datetime(2026, 1, 3, tzinfo=UTC)),
            Filter(min_probability=0.71),
            Filter(state="failed"),
        ):
            assert findings(connection, other) == [], other


def test_a_probability_beyond_its_range_is_refused(received: sa.Engine) -> None:
    request(received)
    with pytest.raises(sa.exc.IntegrityError):
        record(received, REQUEST.id, replace(DONE, findings=(replace(SERIES, probability=1.5),)))
    assert state(received) == "in progress"
