"""Analyses whose jobs the engine has given up get an outcome, however many such jobs are kept."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from one_series import insert_analysis, insert_series
from queued_jobs import enqueue

from db.workers import WorkerIdentity
from inference.jobs import JobQueue
from inference.sweep import Sweep
from inference.takeover import Takeover

NOW = datetime.now(UTC)


def test_the_oldest_of_many_dead_jobs(jobs_engine: sa.Engine) -> None:
    with jobs_engine.begin() as connection:
        insert_series(connection, NOW, study="1", series="1.1")
        insert_analysis(connection, NOW, "waits", study="1", series="1.1")
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
