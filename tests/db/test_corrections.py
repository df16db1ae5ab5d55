"""A corrected study: what holds, what replaces what, and what is never sent again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from db import corrections, create_engine, dead_letters
from db.outcomes import ObjectRecord
from db.query import rows_of
from db.results import latest_object
from db.schema import Analysis, Delivery, DeliveryState, ResultObject, Series, Study

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
STUDY = "1.2"


def analysis(name: str, version: int, state: str = "done") -> dict[str, Any]:
    return {
        "id": name, "study_instance_uid": STUDY, "series_instance_uid": "1.2.1",
        "model_name": "m", "model_version": "1", "weights_sha256": "0",
        "configuration_digest": "0", "instance_digest": "0", "version": version,
        "priority": "routine", "trace_id": "t", "state": state, "received_at": NOW,
        "requested_at": NOW,
    }  # fmt: skip


def result_object(number: int, of: str, **changes: Any) -> dict[str, Any]:
    """Return the values of the object that the database gives this number."""
    return {
        "analysis_id": of, "kind": "sr", "sop_class_uid": "1.88.34",
        "sop_instance_uid": f"2.25.{number}", "series_instance_uid": f"2.25.{number}0",
        "path": f"p{number}", "size_bytes": 1, "sha256": "0", "created_at": NOW,
    } | changes  # fmt: skip


NEW = ObjectRecord("sr", "1.88.34", "2.25.99", "2.25.990", "p99", 2, "1", ())


@pytest.fixture
def study(engine: sa.Engine) -> sa.Engine:
    """Two versions of one analysis; the second made an SR (2), its fallback (3) and an SC (4)."""
    with engine.begin() as connection:
        connection.execute(
            sa.insert(Study).values(
                study_instance_uid=STUDY, patient_id="A", patient_name="X^Y",
                accession_number="1", received_at=NOW, last_received_at=NOW,
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(Series).values(
                series_instance_uid="1.2.1", study_instance_uid=STUDY, trace_id="t",
                first_received_at=NOW, last_received_at=NOW,
            )
        )  # fmt: skip
        connection.execute(sa.insert(Analysis), [analysis("a", 1), analysis("b", 2)])
        for values in (
            result_object(1, "a"),
            result_object(2, "b"),
            result_object(3, "b", sop_class_uid="1.88.22", fallback_of_id=2),
            result_object(4, "b", kind="sc"),
        ):
            connection.execute(sa.insert(ResultObject).values(**values))
        for number, destination, state in (
            (2, "pacs", DeliveryState.COMMITTED),
            (3, "archive", DeliveryState.PENDING),
            (4, "pacs", DeliveryState.DEAD),
        ):
            connection.execute(
                sa.insert(Delivery).values(
                    result_object_id=number, destination=destination, state=state,
                    next_attempt_at=NOW, created_at=NOW,
                )
            )  # fmt: skip
    return engine


def test_the_study_says_what_was_corrected(study: sa.Engine) -> None:
    with study.begin() as connection:
        assert corrections.is_known(connection, STUDY)
        assert not corrections.is_known(connection, "1.3")
        first = {"PatientID": "B", "IssuerOfPatientID": "HOSPITAL", "AccessionNumber": "2"}
        corrections.correct(connection, STUDY, first, "merge", NOW)
        corrections.correct(connection, STUDY, {"AccessionNumber": ""}, "none after all", NOW)
    with study.connect() as connection:
        (row,) = rows_of(connection, "v_studies", order_by="received_at")
        assert (row["patient_id"], row["patient_name"], row["accession_number"]) == (
            "B",
            "X^Y",
            None,
        )
        assert corrections.corrections(connection, STUDY) == {
            "PatientID": "B",
            "IssuerOfPatientID": "HOSPITAL",
            "AccessionNumber": "",
        }


def test_what_holds_now_is_of_the_last_version_and_no_fallback(study: sa.Engine) -> None:
    with study.connect() as connection:
        assert [one.id for one in corrections.current_objects(connection, STUDY)] == [2, 4]


def test_a_failed_later_version_replaces_nothing(study: sa.Engine) -> None:
    with study.begin() as connection:
        connection.execute(sa.insert(Analysis), [analysis("c", 3, "failed")])
    with study.connect() as connection:
        assert [one.id for one in corrections.current_objects(connection, STUDY)] == [2, 4]


def test_a_replaced_object_goes_nowhere_any_more(study: sa.Engine) -> None:
    with study.begin() as connection:
        old = corrections.current_objects(connection, STUDY)[0]
        corrections.replace(connection, old, NEW, NOW)
    with study.connect() as connection:
        assert [one.sop_instance_uid for one in corrections.current_objects(connection, STUDY)] == [
            "2.25.4",
            "2.25.99",
        ]
        rows = rows_of(connection, "v_deliveries", order_by="delivery_id")
        states = {(row["sop_instance_uid"], row["destination"]): row["state"] for row in rows}
        assert states == {
            ("2.25.2", "pacs"): "committed",
            ("2.25.3", "archive"): "dead",
            ("2.25.4", "pacs"): "dead",
            ("2.25.99", "pacs"): "pending",
            ("2.25.99", "archive"): "pending",
        }
        objects = rows_of(connection, "v_objects", order_by="object_id")
        told = {row["sop_instance_uid"]: (row["is_current"], row["fault"]) for row in objects}
        assert told["2.25.99"] == (1, None)
        assert not told["2.25.2"][0] and "replaced by 2.25.99" in str(told["2.25.2"][1])
        assert "replaced by 2.25.99" in str(told["2.25.3"][1])
        assert told["2.25.4"] == (1, None)
        # The predecessor of the next version is the corrected report.
        assert latest_object(connection, "b", "sr") == "p99"


def deliver(connection: sa.Connection, number: int, state: DeliveryState) -> None:
    connection.execute(
        sa.insert(Delivery).values(
            result_object_id=number, destination="far", state=state, next_attempt_at=NOW,
            created_at=NOW,
        )
    )  # fmt: skip


def states(connection: sa.Connection) -> dict[tuple[str, str], str]:
    rows = rows_of(connection, "v_deliveries", order_by="delivery_id")
    return {(row["sop_instance_uid"], row["destination"]): row["state"] for row in rows}


def test_a_retry_never_sends_what_was_replaced(study: sa.Engine) -> None:
    with study.begin() as connection:
        old = corrections.current_objects(connection, STUDY)[0]
        corrections.replace(connection, old, NEW, NOW)
    with study.begin() as connection:
        # The capture, which nothing replaces, is all that is tried again.
        assert dead_letters.retry(connection, NOW) == 1
        found = states(connection)
        assert found["2.25.3", "archive"] == "dead"
        assert found["2.25.4", "pacs"] == "pending"
        assert dead_letters.retry(connection, NOW, delivery_id=2) == 0
        (old_one,) = rows_of(
            connection, "v_objects", order_by="object_id", equals={"sop_instance_uid": "2.25.2"}
        )
        assert "replaced by 2.25.99" in str(old_one["fault"])


def test_a_fallback_that_was_made_meanwhile_is_no_way_out(study: sa.Engine) -> None:
    with study.begin() as connection:
        old = corrections.current_objects(connection, STUDY)[0]
        corrections.replace(connection, old, NEW, NOW)
        late = result_object(6, "b", sop_class_uid="1.88.33", fallback_of_id=2)
        connection.execute(sa.insert(ResultObject).values(**late))
        deliver(connection, 6, DeliveryState.DEAD)
    with study.begin() as connection:
        assert dead_letters.retry(connection, NOW, destination="far") == 0


def test_earlier_versions_are_not_sent_about_the_wrong_patient(study: sa.Engine) -> None:
    with study.begin() as connection:
        deliver(connection, 1, DeliveryState.PENDING)
    with study.begin() as connection:
        current = corrections.current_objects(connection, STUDY)
        corrections.correct(connection, STUDY, {"PatientID": "B"}, "merge", NOW)
        corrections.withhold(connection, STUDY, current)
    with study.begin() as connection:
        found = states(connection)
        assert found["2.25.1", "far"] == "dead"
        assert found["2.25.3", "archive"] == "pending"  # until it is replaced
        assert dead_letters.retry(connection, NOW, destination="far") == 0
        told = rows_of(connection, "v_objects", order_by="object_id")
        faulty = [row["sop_instance_uid"] for row in told if row["fault"] is not None]
        assert faulty == ["2.25.1"]


def test_who_holds_a_study_is_alone_with_it(study: sa.Engine) -> None:
    other = create_engine(study.url.render_as_string(hide_password=False), wait_seconds=0.2)
    with study.begin() as connection:
        corrections.hold(connection, STUDY)
        assert corrections.corrections(connection, STUDY) == {}
        with pytest.raises(sa.exc.OperationalError), other.begin() as rival:
            corrections.hold(rival, STUDY)
    with other.begin() as rival:
        corrections.hold(rival, STUDY)
    other.dispose()


def test_a_replaced_object_is_not_tried_again_either(study: sa.Engine) -> None:
    with study.begin() as connection:
        for old in corrections.current_objects(connection, STUDY):
            if old.kind == "sr":
                corrections.replace(connection, old, NEW, NOW)
        assert dead_letters.retry(connection, NOW, delivery_id=2) == 0  # of the fallback
        assert dead_letters.retry(connection, NOW) == 1  # of the capture, which holds
        letter = dead_letters.explain(connection, 2)
        assert letter is not None
        assert (letter.state, letter.replaced_by) == ("dead", NEW.sop_instance_uid)
        assert "replaced by" in str(letter.fault)
        capture = dead_letters.explain(connection, 3)
        assert capture is not None
        assert (capture.state, capture.replaced_by) == ("pending", None)
