"""A worker that is woken takes jobs at once, however long the pause between two polls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from db import create_engine
from db.migrate import upgrade
from inference import job_runner
from inference.job_runner import JobRunner
from inference.job_states import Priority
from inference.jobs import JobQueue, prepare

_LONGER_THAN_THE_TEST = 600.0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = create_engine(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    prepare(made)
    upgrade(made)
    yield made
    made.dispose()


def test_a_wake_begins_a_job_before_its_poll(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = dict.fromkeys(job_runner.SECONDS, _LONGER_THAN_THE_TEST)
    monkeypatch.setattr(job_runner, "SECONDS", pauses)
    queue, ran = JobQueue(engine), threading.Semaphore(0)
    runner = JobRunner(engine, "test-0", lambda _name: ran.release())
    runner.wake()  # before the start there is nobody to wake
    runner.start()
    try:
        for number in range(3):
            with engine.begin() as connection:
                queue.enqueue(connection, f"job-{number}", Priority.ROUTINE)
            assert _woken_until(runner, ran), "it was not taken"
    finally:
        runner.stop(1)


def _woken_until(runner: JobRunner, ran: threading.Semaphore) -> bool:
    for _ in range(300):
        # A wake that finds the worker's slot not free yet is lost.
        runner.wake()
        if ran.acquire(timeout=0.1):
            return True
    return False
