"""What doctor says of workers: who is silent, who runs on what, and what happened lately."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from db import create_engine
from db.migrate import upgrade
from db.worker_events import WorkerEventRecord, WorkerStep, add
from db.workers import WorkerIdentity, enter
from deploy.check import Verdict
from deploy.doctor_workers import examine_workers
from deploy.settings import Settings


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'x.sqlite'}")
    upgrade(engine)
    yield engine
    engine.dispose()


def said(engine: sa.Engine) -> list[tuple[str, Verdict, str]]:
    return [(one.name, one.verdict, one.message) for one in examine_workers(Settings(), engine)]


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
