"""A worker that reads STAT leaves routine jobs in the queue where another worker may take them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from one_series import insert_analysis, insert_series
from queued_jobs import enqueue
from waiting import wait_for

from db.workers import WorkerIdentity, enter
from inference.job_runner import JobRunner
from inference.job_states import JobState, Priority
from inference.jobs import JobQueue
from inference.scheduling import giving_way
from inference.worker import Worker
from inference.worker_settings import WorkerSettings

NOW = datetime.now(UTC)


class Facts:
    def index_new(self, _most: int) -> None:
        pass


class Reading:
    """Analyses that run until they are told to end."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.begun: list[str] = []
        self.end = threading.Event()

    def analyse(self, analysis_id: str) -> None:
        self.begun.append(analysis_id)
        assert self.end.wait(240)

    def fail(self, analysis_id: str, code: str, reason: str) -> None:
        raise AssertionError(f"{analysis_id} failed: {code}, {reason}")


def ask(engine: sa.Engine, name: str, priority: Priority) -> None:
    with engine.begin() as connection:
        insert_analysis(
            connection,
            NOW,
            name,
            study="1",
            series="1.1",
            instance_digest=name,
            model_name=name,
            priority=priority,
        )
    enqueue(engine, name, priority=priority)


@contextmanager
def working(engine: sa.Engine, reading: Reading) -> Iterator[tuple[Worker, JobQueue]]:
    identity = WorkerIdentity("host-0", "host", os.getpid(), "cpu", ("m",))
    worker = Worker(engine, reading, identity, WorkerSettings(grace_seconds=1))  # type: ignore[arg-type]
    stop, queue = threading.Event(), JobQueue(engine)
    served = threading.Thread(target=worker.serve, args=(stop,))
    served.start()
    try:
        yield worker, queue
    finally:
        reading.end.set()
        stop.set()
        served.join(60)
        assert not served.is_alive()


def state(queue: JobQueue, name: str) -> JobState:
    (job,) = queue.jobs([name])
    return job.state


@pytest.mark.parametrize("is_alone", [False, True])
def test_routine_is_left_to_another_worker_while_stat_is_read(
    jobs_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, is_alone: bool
) -> None:
    monkeypatch.setattr(giving_way, "_ALONE_SECONDS", 600.0)
    with jobs_engine.begin() as connection:
        if not is_alone:
            enter(connection, WorkerIdentity("other-0", "other", 1, "cpu", ("m",)))
        insert_series(connection, NOW, study="1", series="1.1")
    reading = Reading()
    ask(jobs_engine, "urgent", Priority.STAT)
    with working(jobs_engine, reading) as (worker, queue):
        wait_for(lambda: reading.begun == ["urgent"])
        wait_for(lambda: is_alone or worker._takeover.has_others)  # it looks now and then
        ask(jobs_engine, "routine", Priority.ROUTINE)
        if is_alone:
            # It would gain nothing by waiting in the queue.
            wait_for(lambda: state(queue, "routine") is JobState.RUNNING)
        else:
            time.sleep(0.8)
            assert state(queue, "routine") is JobState.QUEUED
        reading.end.set()
        wait_for(lambda: state(queue, "routine") is JobState.ENDED)


def test_a_runner_that_leaves_routine_takes_stat_and_routine_later(jobs_engine: sa.Engine) -> None:
    leaves, ran = [True], list[str]()
    runner = JobRunner(jobs_engine, "test-0", ran.append, leaves_routine=lambda: leaves[0])
    enqueue(jobs_engine, "routine")
    enqueue(jobs_engine, "urgent", priority=Priority.STAT)
    runner.start()
    try:
        wait_for(lambda: ran == ["urgent"])
        time.sleep(0.5)
        assert ran == ["urgent"]
        leaves[0] = False
        wait_for(lambda: ran == ["urgent", "routine"])
    finally:
        runner.stop(1)
