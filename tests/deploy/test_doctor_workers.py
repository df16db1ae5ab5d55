"""What doctor says of workers: who is silent, who runs on what, and what happened lately."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from db import create_engine
from db.migrate import upgrade
from db.schema import Analysis
from db.worker_events import WorkerEventRecord, WorkerStep, add
from db.workers import WorkerIdentity, enter
from deploy.bells import Bell, hearing
from deploy.check import Verdict
from deploy.doctor_workers import examine_workers
from deploy.settings import Settings
from inference.settings import InferenceSettings
from inference.worker_id import claim_worker_id


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'x.sqlite'}")
    upgrade(engine)
    yield engine
    engine.dispose()


def said(engine: sa.Engine, settings: Settings | None = None) -> list[tuple[str, Verdict, str]]:
    found = examine_workers(settings or Settings(), engine)
    return [(one.name, one.verdict, one.message) for one in found]


@pytest.fixture
def two_wanted(tmp_path: Path) -> Settings:
    inference = InferenceSettings(device="cpu", workers=2)
    return Settings(data_dir=tmp_path / "data", inference=inference)


def test_nothing_is_said_of_no_workers(facts: sa.Engine) -> None:
    assert said(facts) == []


def test_a_worker_on_the_wrong_device_is_bad_and_a_silent_one_a_warning(facts: sa.Engine) -> None:
    with facts.begin() as connection:
        enter(connection, WorkerIdentity("a", "h", 1, "cuda:0", ("m",)))
        enter(connection, WorkerIdentity("b", "h", 2, "cpu", ("m",), "cuda:1", "it has gone"))
        enter(connection, WorkerIdentity("c", "h", 3, "cpu", ("m",)))
        connection.execute(
            sa.text("UPDATE worker SET seen_at = '2026-01-01 00:00:00' WHERE id = 'c'")
        )
    good, bad, silent = said(facts)
    assert good[1:] == (Verdict.GOOD, "a runs on cuda:0")
    assert bad[1] is Verdict.BAD
    assert bad[2].startswith("b runs on cpu, not on cuda:1: it has gone. See to the GPU")
    assert (silent[1], "last seen" in silent[2]) == (Verdict.WARNING, True)


@pytest.mark.parametrize(
    ("step", "verdict"),
    [
        (WorkerStep.SMALLER, Verdict.GOOD),
        (WorkerStep.RECYCLED, Verdict.GOOD),
        (WorkerStep.POISONED, Verdict.WARNING),
        (WorkerStep.DEVICE_LOST, Verdict.WARNING),
    ],
)
def test_what_happened_within_a_day_is_summed_up(
    facts: sa.Engine, step: WorkerStep, verdict: Verdict
) -> None:
    now = datetime.now(UTC)
    with facts.begin() as connection:
        for hours in (1, 2, 25):
            at = now - timedelta(hours=hours)
            add(connection, [WorkerEventRecord(at, "w", step, "said")])
    ((name, found, message),) = said(facts)
    assert (name, found) == ("worker events", verdict)
    assert f"2 {step};" in message


def test_fewer_workers_than_asked_for_are_told_of_while_one_runs(
    facts: sa.Engine, two_wanted: Settings
) -> None:
    folder = two_wanted.data_dir / "workers"
    folder.mkdir(parents=True)
    (folder / "facts.lock").touch()
    assert said(facts, two_wanted) == []  # the node is not up
    with claim_worker_id(folder, "cpu"):
        ((name, verdict, message),) = said(facts, two_wanted)
        assert (name, verdict) == ("workers", Verdict.WARNING)
        assert message.startswith("1 of 2 run (inference.workers)")
        with claim_worker_id(folder, "cpu"):
            assert said(facts, two_wanted) == []  # also while it still loads its models
    assert said(facts, two_wanted) == []


def test_no_worker_is_told_of_where_another_part_runs_and_nobody_works_elsewhere(
    facts: sa.Engine, two_wanted: Settings
) -> None:
    with hearing(two_wanted.data_dir, Bell.OUTBOX, lambda: None):
        ((_, verdict, message),) = said(facts, two_wanted)
        assert (verdict, message.split(" run ")[0]) == (Verdict.WARNING, "0 of 2")
        with facts.begin() as connection:
            enter(connection, WorkerIdentity("far-cpu-0", "far", 1, "cpu", ("m",)))
        assert [name for name, *_ in said(facts, two_wanted)] == ["worker"]
        with facts.begin() as connection:
            connection.execute(sa.text("UPDATE worker SET seen_at = '2026-01-01 00:00:00'"))
        assert [name for name, *_ in said(facts, two_wanted)] == ["worker", "workers"]
    assert [name for name, *_ in said(facts, two_wanted)] == ["worker"]


def test_analyses_that_failed_within_a_day_are_counted_by_their_codes(
    facts: sa.Engine,
) -> None:
    now = datetime.now(UTC)
    for number, (code, hours) in enumerate(
        [("worker_lost", 1), ("stuck", 2), ("worker_lost", 3), ("stuck", 25), (None, 1)]
    ):
        failed(facts, number, code, now - timedelta(hours=hours))
    failed(facts, 9, None, now, state="done")
    ((name, verdict, message),) = said(facts)
    assert (name, verdict) == ("analyses", Verdict.WARNING)
    assert message.startswith("4 failed within 24 hours: 2 worker_lost, 1 error, 1 stuck;")


def test_analyses_that_wait_for_no_worker_are_told_of(
    facts: sa.Engine, two_wanted: Settings
) -> None:
    failed(facts, 1, None, datetime.now(UTC), state="pending")
    ((name, verdict, message),) = said(facts, two_wanted)
    assert (name, verdict) == ("analyses", Verdict.WARNING)
    assert message.startswith("1 analysis waits, and no worker runs: `preread up`")
    with facts.begin() as connection:
        enter(connection, WorkerIdentity("far-cpu-0", "far", 1, "cpu", ("m",)))
    assert [name for name, *_ in said(facts, two_wanted)] == ["worker"]
    with facts.begin() as connection:
        connection.execute(sa.text("DELETE FROM worker"))
    (two_wanted.data_dir / "workers").mkdir(parents=True, exist_ok=True)
    with claim_worker_id(two_wanted.data_dir / "workers", "cpu"):  # it still loads its models
        assert [name for name, *_ in said(facts, two_wanted)] == ["workers"]


def failed(
    engine: sa.Engine, number: int, code: str | None, at: datetime, state: str = "failed"
) -> None:
    """Store an analysis that has ended, without its study."""
    row = {
        "id": f"{number}", "study_instance_uid": "1", "series_instance_uid": "1.1",
        "model_name": "m", "model_version": "1", "weights_sha256": "w",
        "configuration_digest": "c", "instance_digest": f"{number}", "version": number + 1,
        "priority": "routine", "state": state, "reason_code": code, "trace_id": "t",
        "received_at": at, "requested_at": at, "finished_at": at,
    }  # fmt: skip
    with engine.connect() as connection:
        connection.execute(sa.text("PRAGMA foreign_keys = OFF"))
        connection.execute(sa.insert(Analysis).values(**row))
        connection.commit()
        connection.execute(sa.text("PRAGMA foreign_keys = ON"))
