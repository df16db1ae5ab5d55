"""Jobs that a worker takes from the queue and never begins."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from queued_jobs import enqueue
from waiting import wait_for

import inference.claims
import inference.worker
from db.workers import WorkerIdentity
from inference.job_runner import JobRunner
from inference.job_states import JobState, Priority
from inference.jobs import JobQueue
from inference.worker import Worker
from inference.worker_settings import WorkerSettings


def run_sql(engine: sa.Engine, text: str, **values: object) -> Any:
    table = "workflow_status" if engine.dialect.name == "sqlite" else "dbos.workflow_status"
    with engine.begin() as connection:
        return connection.execute(sa.text(text.format(jobs=table)), values)


@contextmanager
def running(
    engine: sa.Engine, run: Callable[[str], None], concurrency: int = 1
) -> Iterator[JobRunner]:
    runner = JobRunner(engine, "test-0", run, concurrency)
    runner.start()
    try:
        yield runner
    finally:
        runner.stop(1)


@contextmanager
def taken_without_a_word(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[threading.Event]:
    """The first job is taken, and the connection is cut before the worker hears of it."""
    commit, cut, looks = engine.dialect.do_commit, threading.Event(), threading.Event()
    looks.set()

    def do_commit(connection: Any) -> None:
        commit(connection)
        if looks.is_set() and threading.current_thread().name == "queue-worker-analyse":
            looks.clear()  # what is asked here is committed, too
            if [job.state for job in JobQueue(engine).jobs(["lost"])] == [JobState.RUNNING]:
                cut.set()
                raise engine.dialect.loaded_dbapi.OperationalError("the connection is lost")
            looks.set()

    with monkeypatch.context() as patched:
        patched.setattr(engine.dialect, "do_commit", do_commit)
        yield cut


@pytest.mark.parametrize("priority", list(Priority))
def test_a_job_that_is_given_up_holds_no_slot(
    jobs_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, priority: Priority
) -> None:
    monkeypatch.setattr(inference.claims, "_LONGEST_SECONDS", 600.0)  # after which it is let go
    enqueue(jobs_engine, "poison", priority=priority)
    run_sql(jobs_engine, "UPDATE {jobs} SET recovery_attempts = 5")
    enqueue(jobs_engine, "next", priority=priority)
    ran: list[str] = []
    with running(jobs_engine, ran.append):
        wait_for(JobQueue(jobs_engine).dead, every=0.02)
        wait_for(lambda: ran, every=0.02)
    assert ran == ["next"]


def test_a_job_that_is_cancelled_as_it_is_taken_holds_no_slot(
    jobs_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.claims, "_LONGEST_SECONDS", 600.0)
    ran: list[str] = []
    runner = JobRunner(jobs_engine, "test-0", ran.append)
    claim, queue = runner._claims.add, JobQueue(jobs_engine)

    def add(name: str, ids: list[str]) -> None:
        claim(name, ids)
        if "doomed" in ids:
            with jobs_engine.begin() as connection:
                queue.cancel(connection, "doomed")

    monkeypatch.setattr(runner._claims, "add", add)
    enqueue(jobs_engine, "doomed", "next")
    runner.start()
    try:
        wait_for(lambda: ran == ["next"], every=0.02)
    finally:
        runner.stop(1)


def test_a_job_that_was_taken_without_the_worker_hearing_of_it_is_queued_again(
    jobs_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    queue = JobQueue(jobs_engine)
    with running(jobs_engine, ran.append) as runner:
        with taken_without_a_word(jobs_engine, monkeypatch) as cut:
            enqueue(jobs_engine, "lost")
            assert cut.wait(60)
        assert runner.queue_not_begun() == ()  # it may be about to begin
        assert [job.state for job in queue.jobs(["lost"])] == [JobState.RUNNING]
        assert runner.queue_not_begun() == ("lost",)
        wait_for(lambda: ran == ["lost"])
        assert runner.queue_not_begun() == ()
        wait_for(lambda: [job.state for job in queue.jobs(["lost"])] == [JobState.ENDED])


def test_what_runs_is_left_however_long(jobs_engine: sa.Engine) -> None:
    begun: list[str] = []
    end = threading.Event()

    def run(name: str) -> None:
        begun.append(name)
        assert end.wait(240)

    enqueue(jobs_engine, "a", "b")
    enqueue(jobs_engine, "urgent", priority=Priority.STAT)
    with running(jobs_engine, run, concurrency=2) as runner:
        wait_for(lambda: len(begun) == 3)
        assert [runner.queue_not_begun() for _ in range(3)] == [()] * 3
        end.set()
    assert sorted(begun) == ["a", "b", "urgent"]


def test_what_was_taken_once_more_since_is_left(jobs_engine: sa.Engine) -> None:
    """The same job, known by the time that it was taken."""
    with running(jobs_engine, lambda _name: None) as runner:
        enqueue(jobs_engine, "a")
        wait_for(
            lambda: [job.state for job in JobQueue(jobs_engine).jobs(["a"])] == [JobState.ENDED]
        )
        taken = "UPDATE {jobs} SET status = 'PENDING', owner_xid = :owner"
        for owner in ("first", "second"):
            run_sql(jobs_engine, taken, owner=owner)
            assert runner.queue_not_begun() == ()
        run_sql(jobs_engine, "UPDATE {jobs} SET executor_id = 'other-0'")
        assert runner.queue_not_begun() == ()


class Reading:
    """An analyst that notes what it is given."""

    def __init__(self) -> None:
        self.facts = self
        self.begun: list[str] = []

    def index_new(self, _most: int) -> None:
        pass

    def analyse(self, analysis_id: str) -> None:
        self.begun.append(analysis_id)

    def fail(self, analysis_id: str, code: str, reason: str) -> None:
        raise AssertionError(f"{analysis_id} failed: {code}, {reason}")


def test_a_worker_sees_to_it_itself(
    jobs_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.worker, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(inference.worker, "_SWEEP_SECONDS", 0.5)
    reading, stop = Reading(), threading.Event()
    identity = WorkerIdentity("host-0", "host", os.getpid(), "cpu", ("m",))
    worker = Worker(jobs_engine, reading, identity, WorkerSettings(grace_seconds=1))  # type: ignore[arg-type]
    served = threading.Thread(target=worker.serve, args=(stop,))
    with taken_without_a_word(jobs_engine, monkeypatch) as cut:
        served.start()
        enqueue(jobs_engine, "lost")
        assert cut.wait(60)
    try:
        wait_for(lambda: reading.begun == ["lost"])
    finally:
        stop.set()
        served.join(60)
    assert not served.is_alive()
