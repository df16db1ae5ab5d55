"""What the job engine says again and again while the database is away is said seldom."""

from __future__ import annotations

import logging
import threading

import pytest
import sqlalchemy as sa
from queued_jobs import enqueue
from waiting import wait_for

from inference.job_engine import quiet
from inference.job_log import Seldom
from inference.job_runner import JobRunner
from inference.jobs import JobQueue


def record(line: int, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("dbos", level, "queue.py", line, "database away", (), None)


def test_the_same_place_is_heard_once_in_a_while() -> None:
    now = [0.0]
    seldom = Seldom(10.0, lambda: now[0])
    assert [seldom.filter(record(1)) for _ in range(3)] == [True, False, False]
    assert seldom.filter(record(2))
    now[0] = 10.0
    assert [seldom.filter(record(1)) for _ in range(2)] == [True, False]


def test_what_is_no_warning_is_always_heard() -> None:
    seldom = Seldom(10.0, lambda: 0.0)
    assert all(seldom.filter(record(1, logging.ERROR)) for _ in range(3))


def test_the_job_engine_has_it_once_and_goes_the_way_of_every_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    quiet()
    quiet()
    logger = logging.getLogger("dbos")
    assert sum(isinstance(one, Seldom) for one in logger.filters) == 1
    for _ in range(100):
        logger.warning("the database is away")
    assert len(caplog.records) == 1


def test_a_job_that_is_cancelled_while_it_runs_is_no_error(
    jobs_engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    queue, begun, go_on = JobQueue(jobs_engine), threading.Event(), threading.Event()
    ended: list[str] = []

    def run(name: str) -> None:
        begun.set()
        assert name == "next" or go_on.wait(60)
        ended.append(name)

    runner = JobRunner(jobs_engine, "test-0", run)
    runner.start()
    try:
        enqueue(jobs_engine, "x")
        assert begun.wait(60)
        with jobs_engine.begin() as connection:
            queue.cancel(connection, "x")
        go_on.set()
        enqueue(jobs_engine, "next")
        wait_for(lambda: ended == ["x", "next"])
    finally:
        runner.stop(5)
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == []
