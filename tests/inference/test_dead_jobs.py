"""Analyses whose jobs the engine has given up get an outcome, however many such jobs are kept."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from queued_jobs import enqueue

from db.schema import Analysis, Series, Study
from db.workers import WorkerIdentity
from inference.jobs import JobQueue
from inference.sweep import Sweep
from inference.takeover import Takeover

NOW = datetime.now(UTC)


def test_the_oldest_of_many_dead_jobs(jobs_engine: sa.Engine) -> None:
    with jobs_engine.begin() as connection:
        connection.execute(
            sa.insert(Study).values(study_instance_uid="1", received_at=NOW, last_received_at=NOW)
        )
        connection.execute(
            sa.insert(Series).values(
                series_instance_uid="1.1", study_instance_uid="1", trace_id="t",
                first_received_at=NOW, last_received_at=NOW,
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(Analysis).values(
                id="waits", study_instance_uid="1", series_instance_uid="1.1",
                instance_digest="0", model_name="m", model_version="1", weights_sha256="0",
                configuration_digest="0", priority="routine", state="pending", version=1,
                trace_id="t", received_at=NOW, requested_at=NOW,
            )
        )  # fmt: skip
    enqueue(jobs_engine, "waits", *(f"newer{number}" for number in range(1200)))
    table = "workflow_status" if jobs_engine.dialect.name == "sqlite" else "dbos.workflow_status"
    with jobs_engine.begin() as connection:
        connection.execute(
            sa.text(
                f"UPDATE {table} SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', created_at = "
                "created_at - CASE workflow_uuid WHEN 'waits' THEN 1000 ELSE 0 END"
            )
        )
    failed: list[str] = []
    queue = JobQueue(jobs_engine)
    takeover = Takeover(jobs_engine, queue, WorkerIdentity("w", "h", 1, "cpu", ()), 60)
    Sweep(jobs_engine, queue, takeover, lambda one, _code, _why: failed.append(one)).run()
    assert failed == ["waits"]
