"""``preread jobs``: cancel and retry, of the analysis and its job as one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from one_series import insert_analysis, insert_series
from queued_jobs import enqueue
from typer.testing import CliRunner

import deploy.cli.jobs
from db import create_engine
from db.migrate import upgrade
from db.schema import Analysis
from deploy.cli import app
from inference.job_states import JobState
from inference.jobs import JobQueue, prepare

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def node(database_url: str, tmp_path: Path) -> Iterator[sa.Engine]:
    """A database with one analysis that waits, and its settings."""
    (tmp_path / "preread.toml").write_text(
        f'data_dir = "{tmp_path}"\n[db]\nurl = "{database_url}"\n'
    )
    engine = create_engine(database_url)
    upgrade(engine)
    prepare(engine)
    with engine.begin() as connection:
        insert_series(connection, NOW)
        insert_analysis(connection, NOW)
    enqueue(engine, "a")
    yield engine
    engine.dispose()


def call(tmp_path: Path, *arguments: str) -> str:
    command = ["jobs", *arguments, "--config", str(tmp_path / "preread.toml")]
    result = CliRunner().invoke(app, command, catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def state(engine: sa.Engine) -> tuple[str, list[JobState]]:
    with engine.connect() as connection:
        analysis = connection.execute(sa.select(Analysis.state)).scalar_one()
    return analysis, [job.state for job in JobQueue(engine).jobs(["a"])]


def test_what_is_cancelled_can_be_retried_and_cancelled_again(
    node: sa.Engine, tmp_path: Path
) -> None:
    assert "is cancelled" in call(tmp_path, "cancel", "a")
    assert state(node) == ("cancelled", [JobState.CANCELLED])
    assert "is queued again" in call(tmp_path, "retry", "a")
    assert state(node) == ("pending", [JobState.CANCELLED, JobState.QUEUED])
    call(tmp_path, "cancel", "a")
    assert state(node) == ("cancelled", [JobState.CANCELLED, JobState.CANCELLED])


def test_a_retry_at_that_very_moment_keeps_its_job(
    node: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lay between what was said of the analysis and the end of its job, which was then its own.

    A pending analysis without a job would never be read.
    """
    seen: list[tuple[str, list[JobState]]] = []
    cancel, record = JobQueue.cancel, deploy.cli.jobs.record_outcome

    def cancelled(queue: JobQueue, *given: Any) -> None:
        seen.append(state(node))
        cancel(queue, *given)

    def recorded(*given: Any) -> bool:
        done = record(*given)
        seen.append(state(node))
        return done

    monkeypatch.setattr(JobQueue, "cancel", cancelled)
    monkeypatch.setattr(deploy.cli.jobs, "record_outcome", recorded)
    call(tmp_path, "cancel", "a")
    # Others see both or neither.
    assert seen == [("pending", [JobState.QUEUED])] * 2
    assert state(node) == ("cancelled", [JobState.CANCELLED])


def test_what_has_an_outcome_keeps_its_job(node: sa.Engine, tmp_path: Path) -> None:
    with node.begin() as connection:
        connection.execute(sa.update(Analysis).values(state="done"))
    with pytest.raises(Exception, match="only pending ones"):
        call(tmp_path, "cancel", "a")
    assert state(node) == ("done", [JobState.QUEUED])
