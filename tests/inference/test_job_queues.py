"""Slots for STAT beside those for routine work, whatever the routine work does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from queued_jobs import enqueue
from waiting import wait_for

import inference.jobs
from db import create_engine
from db.migrate import upgrade
from inference.job_runner import JobRunner
from inference.job_states import JobState, Priority
from inference.jobs import JobQueue, prepare


class Working:
    """Jobs that run until they are told to end."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.end: dict[str, threading.Event] = {}
        self._is_over = False
        self._guard = threading.Lock()

    def run(self, name: str) -> None:
        with self._guard:
            self.started.append(name)
            end = self.end.setdefault(name, threading.Event())
            if self._is_over:
                end.set()
        assert end.wait(240)

    def let_all_go(self) -> None:
        with self._guard:
            self._is_over = True
            for end in self.end.values():
                end.set()

    def let_go(self, *names: str) -> None:
        with self._guard:
            for name in names:
                self.end.setdefault(name, threading.Event()).set()


@contextmanager
def runner(engine: sa.Engine, working: Working, **settings: Any) -> Iterator[None]:
    made = JobRunner(engine, "test-0", working.run, **settings)
    made.start()
    try:
        yield
    finally:
        working.let_all_go()
        made.stop(5)


def test_stat_starts_while_all_routine_slots_are_taken(jobs_engine: sa.Engine) -> None:
    working = Working()
    enqueue(jobs_engine, *(f"r{number}" for number in range(6)))
    with runner(jobs_engine, working, concurrency=2, stat_slots=1):
        wait_for(lambda: len(working.started) == 2)
        enqueue(jobs_engine, "urgent", priority=Priority.STAT)
        wait_for(lambda: len(working.started) == 3)
        assert working.started[2] == "urgent"
        enqueue(jobs_engine, "urgent too", priority=Priority.STAT)
        # Its slot is one beside the others, and no more than one.
        time.sleep(1)
        assert len(working.started) == 3
        working.let_go("urgent")
        wait_for(lambda: working.started[3:] == ["urgent too"])
        working.let_go(working.started[0])
        wait_for(lambda: len(working.started) == 5)
        assert working.started[4].startswith("r")


def test_routine_slots_are_the_same_without_stat(jobs_engine: sa.Engine) -> None:
    working = Working()
    enqueue(jobs_engine, *(f"r{number}" for number in range(6)))
    with runner(jobs_engine, working, concurrency=2, stat_slots=3):
        wait_for(lambda: len(working.started) == 2)
        time.sleep(1)
        assert len(working.started) == 2


def test_stat_that_an_older_version_put_into_the_one_queue_runs_first_of_it(
    jobs_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_queue = dict.fromkeys(Priority, "analyse")
    with monkeypatch.context() as patched:
        patched.setattr(inference.jobs, "QUEUES", one_queue)
        enqueue(jobs_engine, "a", "b")
        enqueue(jobs_engine, "old urgent", priority=Priority.STAT)
    working = Working()
    working.let_go("a", "b", "old urgent")
    with runner(jobs_engine, working):
        wait_for(lambda: len(working.started) == 3)
    assert working.started[0] == "old urgent"


def test_what_a_lost_worker_ran_comes_back_to_its_own_queue(jobs_engine: sa.Engine) -> None:
    enqueue(jobs_engine, "r0", "r1")
    enqueue(jobs_engine, "urgent", priority=Priority.STAT)
    schema = "" if jobs_engine.dialect.name == "sqlite" else "dbos."
    with jobs_engine.begin() as connection:  # as a worker leaves them that is killed
        connection.execute(
            sa.text(f"UPDATE {schema}workflow_status SET status='PENDING', executor_id='gone-0'")
        )
    with jobs_engine.begin() as connection:
        queue = JobQueue(jobs_engine)
        assert queue.take_over(connection, "another-0") == ()
        assert queue.take_over(connection, "gone-0") == ("r0", "r1", "urgent")
        assert queue.take_over(connection, "gone-0") == ()
        found = connection.execute(
            sa.text(f"SELECT workflow_uuid, queue_name, status FROM {schema}workflow_status")
        ).all()
    assert {tuple(row) for row in found} == {
        ("r0", "analyse", "ENQUEUED"),
        ("r1", "analyse", "ENQUEUED"),
        ("urgent", "stat", "ENQUEUED"),
    }


def test_cancelling_and_counting_know_both_queues(jobs_engine: sa.Engine) -> None:
    queue = JobQueue(jobs_engine)
    enqueue(jobs_engine, "urgent", priority=Priority.STAT)
    assert [job.state for job in queue.live("urgent")] == [JobState.QUEUED]
    with jobs_engine.begin() as connection:
        queue.cancel(connection, "urgent")
    assert [job.state for job in queue.jobs(["urgent"])] == [JobState.CANCELLED]


def test_looking_for_jobs_takes_no_part_in_the_write_lock(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from db.write_lock import FairConnection

    if not database_url.startswith("sqlite"):
        pytest.skip("only SQLite has that lock")
    engine = create_engine(database_url)
    upgrade(engine)
    prepare(engine)
    working, looks = Working(), []

    def looked() -> bool:
        looks.append(1)
        return False

    with runner(engine, working, leaves_routine=looked):
        wait_for(lambda: len(looks) >= 2)  # its own entries are written
        taken = []
        real = FairConnection._acquire

        def counted(self: FairConnection) -> None:
            taken.append(threading.current_thread().name)
            real(self)

        monkeypatch.setattr(FairConnection, "_acquire", counted)
        before = len(looks)
        wait_for(lambda: len(looks) >= before + 2)
    # The engine looks after its own tables, rarely.
    assert [name for name in taken if name.startswith("queue-worker")] == []
    engine.dispose()


OTHER = """
import sys, time
from pathlib import Path
from db import create_engine
from inference.job_runner import JobRunner
def run(name):
    Path(sys.argv[2], name).touch()
    time.sleep(600)
runner = JobRunner(create_engine(sys.argv[1]), "other-0", run, int(sys.argv[3]), 1)
runner.start()
Path(sys.argv[2], "ready").touch()
time.sleep(600)
"""


def test_each_worker_keeps_to_its_own_slots(
    jobs_engine: sa.Engine, database_url: str, tmp_path: Path
) -> None:
    """Of two that say different numbers the later one has no say in what the earlier one takes."""
    begun = tmp_path / "begun"
    begun.mkdir()
    working = Working()
    with runner(jobs_engine, working, concurrency=1, stat_slots=1):
        other = subprocess.Popen(
            [sys.executable, "-c", OTHER, database_url, str(begun), "3"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for((begun / "ready").exists, 120)
            enqueue(jobs_engine, *(f"r{number}" for number in range(8)))
            wait_for(lambda: len(working.started) == 1)
            wait_for(lambda: len(list(begun.iterdir())) == 4)
            time.sleep(1)
            assert len(working.started) == 1
            assert len(list(begun.iterdir())) == 4
            working.let_go(working.started[0])
            wait_for(lambda: len(working.started) == 2)
        finally:
            other.kill()
            other.wait()


def test_a_worker_begins_with_its_own_slots(jobs_engine: sa.Engine) -> None:
    """The numbers of an earlier one stand in the database when it looks first."""
    many, one = Working(), Working()
    with runner(jobs_engine, many, concurrency=6, stat_slots=6):
        pass
    enqueue(jobs_engine, *(f"r{number}" for number in range(6)))
    with runner(jobs_engine, one, concurrency=1, stat_slots=1):
        wait_for(lambda: one.started)
        time.sleep(1)
        assert len(one.started) == 1


def test_how_often_a_job_was_begun_is_counted_across_workers(jobs_engine: sa.Engine) -> None:
    """One that kills whoever runs it is given up, also where survivors take it over each time."""
    queue = JobQueue(jobs_engine)
    enqueue(jobs_engine, "poison")
    schema = "" if jobs_engine.dialect.name == "sqlite" else "dbos."
    for number in range(1, 6):
        with jobs_engine.begin() as connection:  # as a worker takes it that is killed with it
            connection.execute(
                sa.text(
                    f"UPDATE {schema}workflow_status SET status='PENDING', executor_id='gone', "
                    "recovery_attempts = recovery_attempts + 1"
                )
            )
            assert queue.take_over(connection, "gone") == ("poison",)
        assert [job.attempts for job in queue.jobs(["poison"])] == [number]
    working = Working()
    with runner(jobs_engine, working):
        wait_for(queue.dead)
    assert working.started == []
