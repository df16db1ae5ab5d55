"""How many analyses failed lately, and with which codes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from records import RECORD

from db.failures import failed_since
from db.ingest import Ingest
from db.outcomes import Outcome, record_outcome
from db.results import AnalysisRequest, reopen, request_analysis
from db.schema import AnalysisState


def ended(engine: sa.Engine, name: str, state: AnalysisState, code: str | None) -> None:
    request = AnalysisRequest(
        id=name, study_instance_uid=RECORD.study_instance_uid,
        series_instance_uid=RECORD.series_instance_uid, instance_ids=(1,), instance_digest=name,
        model_name="m", model_version="1", weights_sha256="w", configuration_digest="c",
        priority="routine", shadow=False, trace_id="t", received_at=datetime.now(UTC),
    )  # fmt: skip
    with engine.begin() as connection:
        assert request_analysis(connection, request)
        assert record_outcome(connection, name, Outcome(state, reason_code=code, reason="said"))


def test_failures_are_counted_by_code_since_a_time_and_until_they_are_retried(
    engine: sa.Engine,
) -> None:
    ingest = Ingest(engine)
    ingest.add(RECORD)
    ingest.close()
    began = datetime.now(UTC)
    for name, code in (("a", "stuck"), ("b", "worker_lost"), ("c", "worker_lost"), ("d", None)):
        ended(engine, name, AnalysisState.FAILED, code)
    ended(engine, "e", AnalysisState.NOT_ANALYSED, "contrast")
    ended(engine, "f", AnalysisState.DONE, None)
    ended(engine, "g", AnalysisState.FAILED, "error")
    with engine.begin() as connection:
        found = failed_since(connection, began)
        assert list(found.items()) == [("error", 2), ("worker_lost", 2), ("stuck", 1)]
        assert failed_since(connection, datetime.now(UTC) + timedelta(minutes=1)) == {}
        assert reopen(connection, "b")
        assert failed_since(connection, began) == {"error": 2, "stuck": 1, "worker_lost": 1}
