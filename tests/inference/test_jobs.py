"""Durable jobs: enqueued with the facts, run by priority, survived by their work, given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from queued_jobs import enqueue
from waiting import wait_for

from inference.claims import Claims
from inference.job_runner import JobRunner
from inference.job_states import JobState, Priority
from inference.jobs import JobQueue

ROOT = Path(__file__).parents[2]


def test_jobs_run_once_stat_first_and_a_rollback_leaves_none(jobs_engine: sa.Engine) -> None:
    queue = JobQueue(jobs_engine)
    enqueue(jobs_engine, "a", "b", "a")
    enqueue(jobs_engine, "urgent", priority=Priority.STAT)
    with jobs_engine.connect() as connection:
        queue.enqueue(connection, "undone", Priority.STAT)
        connection.rollback()
    ran: list[str] = []
    came = threading.Event()

    def run(name: str) -> None:
        # Each has its own slots, and both are looked at together: routine work holds up no STAT.
        if name == "urgent":
            came.set()
        elif not came.wait(60):
            ran.append("routine alone")
        ran.append(name)

    runner = JobRunner(jobs_engine, "test-0", run)
    runner.start()
    try:
        wait_for(lambda: len(ran) == 3)
        wait_for(
            lambda: {job.state for job in queue.jobs(["a", "b", "urgent"])} == {JobState.ENDED}
        )
        time.sleep(1)
    finally:
        runner.stop(1)
    assert sorted(ran) == ["a", "b", "urgent"]


def test_a_cancelled_job_does_not_run_and_a_retried_one_does(jobs_engine: sa.Engine) -> None:
    queue = JobQueue(jobs_engine)
    enqueue(jobs_engine, "x", "y")
    with jobs_engine.begin() as connection:
        queue.cancel(connection, "x")
    assert [job.state for job in queue.jobs(["x"])] == [JobState.CANCELLED]
    ran: list[str] = []
    runner = JobRunner(jobs_engine, "test-0", ran.append)
    runner.start()
    try:
        wait_for(lambda: ran == ["y"])
        with jobs_engine.begin() as connection:
            queue.enqueue_again(connection, "x", Priority.ROUTINE)
        wait_for(lambda: ran == ["y", "x"])
    finally:
        runner.stop(1)


class Counted:
    """Jobs that take a while, the first until there are two, and how many run at once."""

    def __init__(self, seconds: float) -> None:
        self.most, self.ran = 0, list[str]()
        self._seconds, self._running = seconds, 0
        self._guard = threading.Lock()
        self._are_two = threading.Event()

    def run(self, name: str) -> None:
        with self._guard:
            self._running += 1
            self.most = max(self.most, self._running)
            if self.most >= 2:
                self._are_two.set()
        self._are_two.wait(60)
        time.sleep(self._seconds)
        with self._guard:
            self._running -= 1
            self.ran.append(name)


def test_a_running_job_is_not_taken_by_another_and_concurrency_holds(
    jobs_engine: sa.Engine,
) -> None:
    enqueue(jobs_engine, *(f"j{number}" for number in range(6)))
    counted = Counted(0.3)
    runner = JobRunner(jobs_engine, "test-0", counted.run, concurrency=2)
    runner.start()
    try:
        wait_for(lambda: len(counted.ran) == 6)
    finally:
        runner.stop(1)
    assert counted.most == 2
    assert sorted(counted.ran) == [f"j{number}" for number in range(6)]


def test_bells_that_ring_all_the_while_give_no_more_slots(jobs_engine: sa.Engine) -> None:
    enqueue(jobs_engine, *(f"j{number}" for number in range(12)))
    counted, is_over = Counted(0.1), threading.Event()
    runner = JobRunner(jobs_engine, "test-0", counted.run, concurrency=2)

    def ring() -> None:
        while not is_over.wait(0.001):
            runner.wake()

    bells = threading.Thread(target=ring)
    runner.start()
    bells.start()
    try:
        wait_for(lambda: len(counted.ran) == 12)
    finally:
        is_over.set()
        bells.join()
        runner.stop(1)
    assert counted.most == 2


def test_what_was_claimed_and_never_begins_does_not_keep_its_slot() -> None:
    now = [0.0]
    claims = Claims(lambda: now[0])
    claims.add("stat", ["a", "b"])
    claims.add("analyse", ["c"])
    assert (claims.count("stat"), claims.count("analyse"), claims.count("other")) == (2, 1, 0)
    claims.begun("a")
    claims.begun(None)
    assert claims.count("stat") == 1
    now[0] = 11.0
    assert (claims.count("stat"), claims.count("analyse")) == (0, 0)


def test_ended_jobs_are_forgotten_others_never(jobs_engine: sa.Engine) -> None:
    queue = JobQueue(jobs_engine)
    enqueue(jobs_engine, "old", "waits")
    with jobs_engine.begin() as connection:
        queue.cancel(connection, "old")
    assert queue.forget(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert queue.forget(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert [job.id for job in queue.jobs(["old", "waits"])] == ["waits"]


def test_a_retry_after_earlier_jobs_were_forgotten_is_queued(jobs_engine: sa.Engine) -> None:
    queue = JobQueue(jobs_engine)
    enqueue(jobs_engine, "x")
    with jobs_engine.begin() as connection:
        queue.cancel(connection, "x")
        queue.enqueue_again(connection, "x", Priority.ROUTINE)
    assert queue.forget(datetime.now(UTC) + timedelta(hours=1)) == 1
    with jobs_engine.begin() as connection:
        queue.cancel(connection, "x")
        queue.enqueue_again(connection, "x", Priority.ROUTINE)
    assert [job.id for job in queue.live("x")] == ["x.2"]


RUNNER = """
import sys, time
from db import create_engine
from inference.job_runner import JobRunner
def run(name):
    with open(sys.argv[3], "a") as notes:
        notes.write(f"{name}\\n")
    time.sleep(0.1 if name.startswith("quick") else 600)
runner = JobRunner(create_engine(sys.argv[1]), sys.argv[2], run)
runner.start()
time.sleep(600)
"""


def start_runner(url: str, executor: str, notes: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, url, executor, str(notes)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )


def lines(notes: Path) -> list[str]:
    return notes.read_text().split() if notes.exists() else []


@pytest.mark.slow
def test_a_job_that_kills_its_worker_is_given_up(
    jobs_engine: sa.Engine, database_url: str, tmp_path: Path
) -> None:
    enqueue(jobs_engine, "poison")
    notes = tmp_path / "notes"
    queue = JobQueue(jobs_engine)
    for start in range(1, 8):
        runner = start_runner(database_url, "host-0", notes)
        try:
            wait_for(lambda n=start: len(lines(notes)) >= n or queue.dead())
        finally:
            runner.send_signal(signal.SIGKILL)
            runner.wait()
        if queue.dead():
            break
    assert [job.analysis_id for job in queue.dead()] == ["poison"]
    assert 2 <= len(lines(notes)) <= 6


@pytest.mark.slow
def test_jobs_of_a_silent_worker_go_to_another(
    jobs_engine: sa.Engine, database_url: str, tmp_path: Path
) -> None:
    enqueue(jobs_engine, "stuck")
    notes, others = tmp_path / "notes", tmp_path / "others"
    first = start_runner(database_url, "host-0", notes)
    wait_for(lambda: lines(notes) == ["stuck"], 120)
    first.send_signal(signal.SIGKILL)
    first.wait()

    with jobs_engine.begin() as connection:
        assert JobQueue(jobs_engine).take_over(connection, "host-0") == ("stuck",)
    second = start_runner(database_url, "host-1", others)
    try:
        wait_for(lambda: lines(others) == ["stuck"], 120)
    finally:
        second.send_signal(signal.SIGKILL)
        second.wait()
