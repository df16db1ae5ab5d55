"""The outbox of notifications on both databases: with the outcome or not at all, and retries."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from db import corrections, notifications
from db.ingest import Ingest, InstanceRecord
from db.notifications import DueNotification, Notified
from db.outcomes import FindingRecord, ObjectRecord, Outcome, record_outcome
from db.results import AnalysisRequest, reopen, request_analysis
from db.schema import AnalysisState, Notification, Presence, Scope
from db.told import asked, earlier_findings, told

NOW = datetime.now(UTC)
# Beyond the end of this run: what is asked for in it is due then.
LATER = NOW + timedelta(days=1)
IMAGE = InstanceRecord(
    study_instance_uid="1.2", patient_id="P", patient_name="A^B", patient_birth_date="19700101",
    patient_sex="F", accession_number="ACC", study_date="20260101", study_description="Head",
    series_instance_uid="1.2.1", modality="CT", series_number=1, series_description=None,
    body_part=None, sop_instance_uid="1.2.1.1", sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    transfer_syntax_uid="1.2.840.10008.1.2.1", instance_number=1, path="images/00/1.dcm",
    size_bytes=1, sha256="0" * 64, received_at=NOW, association_id="t" * 32,
)  # fmt: skip
REQUEST = AnalysisRequest(
    id="a" * 64, study_instance_uid="1.2", series_instance_uid="1.2.1", instance_ids=(1,),
    instance_digest="d" * 64, model_name="hemorrhage", model_version="1.0",
    weights_sha256="w" * 64, configuration_digest="c" * 64, priority="stat", shadow=False,
    trace_id="t" * 32, received_at=NOW,
)  # fmt: skip
SERIES = FindingRecord(
    label="any", code_value="1386000", code_scheme="SCT", code_meaning="Intracranial hemorrhage",
    scope=Scope.SERIES, sop_instance_uid=None, probability=0.7, threshold_low=0.3,
    threshold_high=0.6, presence=Presence.PRESENT, key_sop_instance_uid="1.2.1.1",
)  # fmt: skip
SLICE = replace(SERIES, scope=Scope.IMAGE, sop_instance_uid="1.2.1.1", probability=0.95)
REPORT = ObjectRecord(
    kind="sr", sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34", sop_instance_uid="2.25.1",
    series_instance_uid="2.25.2", path="r", size_bytes=1, sha256="f" * 64, destinations=(),
)  # fmt: skip
TARGETS = (Notified("ris", NOW + timedelta(hours=2)), Notified("pager"))
DONE = Outcome(AnalysisState.DONE, (SERIES, SLICE), (REPORT,), notifications=TARGETS)


@pytest.fixture
def asked_for(engine: sa.Engine) -> sa.Engine:
    Ingest(engine).add(IMAGE)
    ask(engine)
    return engine


def ask(engine: sa.Engine, **changes: Any) -> None:
    with engine.begin() as connection:
        assert request_analysis(connection, replace(REQUEST, **changes))


def end(engine: sa.Engine, outcome: Outcome = DONE, analysis: str = REQUEST.id) -> bool:
    with engine.begin() as connection:
        return record_outcome(connection, analysis, outcome)


def claim(engine: sa.Engine, now: datetime = LATER, **changes: Any) -> list[DueNotification]:
    with engine.begin() as connection:
        return notifications.claim(
            connection,
            changes.get("target", "ris"),
            now=now,
            leased_until=now + timedelta(minutes=1),
        )


def rows(engine: sa.Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(Notification.__table__).order_by(Notification.id)))


def test_they_are_asked_for_with_the_outcome_or_not_at_all(asked_for: sa.Engine) -> None:
    class PowerLossError(Exception):
        pass

    with pytest.raises(PowerLossError), asked_for.begin() as connection:
        assert record_outcome(connection, REQUEST.id, DONE)
        raise PowerLossError
    assert rows(asked_for) == []
    assert end(asked_for)
    assert not end(asked_for), "an outcome is recorded once"
    assert [(one.target, one.state, one.n_attempts) for one in rows(asked_for)] == [
        ("ris", "pending", 0), ("pager", "pending", 0),
    ]  # fmt: skip
    assert rows(asked_for)[0].deadline_at == TARGETS[0].deadline_at


def test_an_outcome_without_targets_makes_no_rows(asked_for: sa.Engine) -> None:
    end(asked_for, replace(DONE, notifications=()))
    assert rows(asked_for) == []


def test_a_lease_ends_and_every_claim_counts(asked_for: sa.Engine) -> None:
    end(asked_for)
    (due,) = claim(asked_for)
    assert (due.target, due.analysis_id, due.n_attempts) == ("ris", REQUEST.id, 1)
    assert due.trace_id == REQUEST.trace_id
    assert claim(asked_for) == []
    assert len(claim(asked_for, target="pager")) == 1
    (again,) = claim(asked_for, LATER + timedelta(minutes=2))
    assert (again.id, again.n_attempts, again.created_at) == (due.id, 2, due.created_at)


def test_a_look_that_takes_no_lock_tells_what_a_claim_would_find(asked_for: sa.Engine) -> None:
    def is_any_due(target: str = "ris", now: datetime = LATER) -> bool:
        with asked_for.connect() as connection:
            return notifications.is_any_due(connection, target, now)

    assert not is_any_due()
    end(asked_for)
    assert is_any_due()
    assert is_any_due("pager")
    assert not is_any_due("nobody")
    assert not is_any_due(now=NOW - timedelta(minutes=1))
    assert len(claim(asked_for)) == 1
    assert not is_any_due()
    assert is_any_due(now=LATER + timedelta(minutes=2)), "the lease is over"


def test_sent_failed_dead_and_retried(asked_for: sa.Engine) -> None:
    end(asked_for)
    (due,) = claim(asked_for)
    with asked_for.begin() as connection:
        notifications.mark_failed(
            connection, due, "x" * 5000, status="AE", next_attempt_at=LATER + timedelta(seconds=9)
        )
    assert claim(asked_for) == []
    assert len(rows(asked_for)[0].last_error) == 1000
    (due,) = claim(asked_for, LATER + timedelta(seconds=9))
    with asked_for.begin() as connection:
        assert not notifications.retry(connection, due.id, LATER)
        notifications.mark_failed(connection, due, "no", status="AR", next_attempt_at=None)
        (dead,) = notifications.list_dead(connection)
        assert (dead.id, dead.last_status, dead.n_attempts) == (due.id, "AR", 2)
        assert notifications.list_dead(connection, "pager") == []
        assert notifications.retry(connection, due.id, LATER)
    (row, _) = rows(asked_for)
    assert (row.state, row.n_attempts) == ("pending", 0)
    assert row.deadline_at == LATER + (due.deadline_at - due.created_at)  # type: ignore[operator]
    (due,) = claim(asked_for)
    with asked_for.begin() as connection:
        notifications.mark_sent(connection, due, "AA", LATER)
        # A sender that overslept its lease.
        notifications.mark_failed(connection, due, "late", status=None, next_attempt_at=None)
    (row, _) = rows(asked_for)
    assert (row.state, row.last_status, row.last_error, row.sent_at) == ("sent", "AA", None, LATER)


def test_nobody_claims_what_another_has(asked_for: sa.Engine) -> None:
    end(asked_for)
    claimed: list[int] = []

    def compete() -> None:
        claimed.extend(one.id for one in claim(asked_for))

    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 1


def test_a_failure_that_was_told_and_then_mended_is_told_anew(asked_for: sa.Engine) -> None:
    end(asked_for, Outcome(AnalysisState.FAILED, notifications=TARGETS[:1]))
    (old,) = claim(asked_for)
    with asked_for.begin() as connection:
        assert reopen(connection, REQUEST.id)
        assert told(connection, REQUEST.id) is None
    assert claim(asked_for, LATER + timedelta(minutes=2)) == [], "it waits for the new outcome"
    end(asked_for)
    with asked_for.begin() as connection:  # the old message was accepted only now
        notifications.mark_sent(connection, old, "AA", LATER)
    (new,) = claim(asked_for)
    assert (new.id, new.n_attempts) == (old.id, 1)
    assert new.created_at != old.created_at


def test_what_is_told(asked_for: sa.Engine) -> None:
    with asked_for.connect() as connection:
        assert told(connection, REQUEST.id) is None, "not before it has ended"
    end(asked_for)
    with asked_for.begin() as connection:
        said = told(connection, REQUEST.id)
        assert said is not None
        assert (said.patient_name, said.accession_number, said.priority) == ("A^B", "ACC", "stat")
        assert (said.modality, said.image_path) == ("CT", "images/00/1.dcm")
        assert said.sr_sop_instance_uid == "2.25.1"
        assert [(one.label, one.scope, one.probability) for one in said.findings] == [
            ("any", "series", 0.7)
        ], "a slice does not speak for its series"
        correction = {"PatientID": "Q", "IssuerOfPatientID": "H2"}
        corrections.correct(connection, "1.2", correction, "merged", NOW)
        corrected = told(connection, REQUEST.id)
        assert corrected is not None
        assert (corrected.patient_id, corrected.issuer_of_patient_id) == ("Q", "H2")
        connection.execute(sa.text("UPDATE result_object SET fault = 'broken'"))
        faulty = told(connection, REQUEST.id)
        assert faulty is not None
        assert faulty.sr_sop_instance_uid is None


def test_earlier_findings_are_those_of_the_last_version_that_told(asked_for: sa.Engine) -> None:
    end(asked_for)
    chain = ({"shadow": True}, {"shadow": False}, {"shadow": False})
    ends = (
        replace(DONE, objects=()),
        Outcome(AnalysisState.NOT_ANALYSED, reason_code="too_few_slices"),
    )
    for number, changes in enumerate(chain):
        ask(asked_for, id=str(number) * 64, instance_digest=str(number) * 64, **changes)
        if number < len(ends):
            end(asked_for, ends[number], str(number) * 64)
    with asked_for.connect() as connection:
        of = asked(connection, "2" * 64)
        assert of is not None
        assert (of.priority, of.shadow, of.predecessor_id) == ("stat", False, "1" * 64)
        earlier = earlier_findings(connection, of.predecessor_id)
        assert earlier is not None
        assert [one.probability for one in earlier] == [0.7]
        assert earlier_findings(connection, None) is None
        assert asked(connection, "none") is None
