"""An analysis that waits as a routine one becomes STAT: the job, in the caller's transaction."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from queued_jobs import enqueue
from waiting import wait_for

from inference.job_runner import JobRunner
from inference.job_states import JobState, Priority
from inference.jobs import JobQueue


def rows(engine: sa.Engine) -> dict[str, tuple[str, str, int]]:
    schema = "" if engine.dialect.name == "sqlite" else "dbos."
    with engine.connect() as connection:
        found = connection.execute(
            sa.text(
                f"SELECT workflow_uuid, queue_name, status, priority FROM {schema}workflow_status"
            )
        )
        return {name: (queue, status, rank) for name, queue, status, rank in found}


def urge(engine: sa.Engine, *names: str) -> list[bool]:
    queue = JobQueue(engine)
    with engine.begin() as connection:
        return [queue.urge(connection, name) for name in names]


def test_what_waits_goes_to_the_queue_of_stat_once(jobs_engine: sa.Engine) -> None:
    enqueue(jobs_engine, "a", "ab", "b")
    enqueue(jobs_engine, "urgent", priority=Priority.STAT)
    urgent = rows(jobs_engine)["urgent"]
    assert urge(jobs_engine, "a", "urgent", "gone") == [True, False, False]
    assert urge(jobs_engine, "a") == [False]
    found = rows(jobs_engine)
    assert found["a"] == found["urgent"] == urgent == ("stat", "ENQUEUED", 1)
    assert found["ab"] == found["b"] == ("analyse", "ENQUEUED", 10)


def test_a_later_job_of_the_analysis_is_urged(jobs_engine: sa.Engine) -> None:
    queue = JobQueue(jobs_engine)
    enqueue(jobs_engine, "x")
    with jobs_engine.begin() as connection:
        queue.cancel(connection, "x")
        queue.enqueue_again(connection, "x", Priority.ROUTINE)
    assert urge(jobs_engine, "x") == [True]
    found = rows(jobs_engine)
    assert found["x"][1:] == ("CANCELLED", 10)
    assert found["x.1"] == ("stat", "ENQUEUED", 1)


def test_a_transaction_that_is_taken_back_urges_nothing(jobs_engine: sa.Engine) -> None:
    enqueue(jobs_engine, "a")
    with jobs_engine.connect() as connection:
        assert JobQueue(jobs_engine).urge(connection, "a")
        connection.rollback()
    assert rows(jobs_engine)["a"] == ("analyse", "ENQUEUED", 10)


def test_it_overtakes_and_what_runs_is_left(jobs_engine: sa.Engine) -> None:
    enqueue(jobs_engine, "runs")
    started: list[str] = []
    end = threading.Event()

    def run(name: str) -> None:
        started.append(name)
        assert end.wait(240)

    runner = JobRunner(jobs_engine, "test-0", run, concurrency=1, stat_slots=1)
    runner.start()
    try:
        wait_for(lambda: started == ["runs"])
        enqueue(jobs_engine, "waits", "late")
        assert urge(jobs_engine, "runs", "late") == [False, True]
        wait_for(lambda: len(started) == 2)
        assert started == ["runs", "late"]
        assert rows(jobs_engine)["runs"][:2] == ("analyse", "PENDING")
    finally:
        end.set()
        wait_for(lambda: len(started) == 3)
        queue = JobQueue(jobs_engine)
        wait_for(lambda: {job.state for job in queue.jobs(["runs", "late"])} == {JobState.ENDED})
        runner.stop(5)


def test_a_worker_that_takes_a_job_at_that_moment_keeps_it(
    jobs_engine: sa.Engine, database_url: str
) -> None:
    """Each is carried out once, and is either taken as a routine one or urged: never both."""
    if jobs_engine.dialect.name == "sqlite":
        pytest.skip("of SQLite one transaction writes at a time")
    enqueue(jobs_engine, "a")
    urged: list[bool] = []
    with jobs_engine.connect() as worker:  # as the engine takes a job
        taken = worker.execute(
            sa.text("UPDATE dbos.workflow_status SET status = 'PENDING' WHERE workflow_uuid = 'a'")
        )
        assert taken.rowcount == 1
        other = threading.Thread(target=lambda: urged.extend(urge(jobs_engine, "a")))
        other.start()
        other.join(0.3)
        assert other.is_alive(), "it waits for the row"
        worker.commit()
    other.join(60)
    assert urged == [False]
    assert rows(jobs_engine)["a"][:2] == ("analyse", "PENDING")


def test_many_are_urged_while_workers_take_them(jobs_engine: sa.Engine) -> None:
    names = [f"j{number}" for number in range(30)]
    enqueue(jobs_engine, *names)
    ran: list[str] = []
    runner = JobRunner(jobs_engine, "test-0", ran.append, concurrency=4, stat_slots=4)
    runner.start()
    try:
        urged = [name for name in reversed(names) if urge(jobs_engine, name) == [True]]
        wait_for(lambda: len(ran) == len(names))
    finally:
        runner.stop(5)
    assert sorted(ran) == sorted(names)
    queues = {name: queue for name, (queue, *_) in rows(jobs_engine).items()}
    assert {name for name in names if queues[name] == "stat"} == set(urged)
