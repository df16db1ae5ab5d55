"""A worker with nothing to do looks for work less often, and at once when something begins."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from queued_jobs import enqueue
from waiting import wait_for

from inference.job_runner import JobRunner
from inference.jobs import JobQueue
from inference.under_way import UnderWay


def test_what_begins_while_nothing_runs_says_so_and_what_raises_is_over() -> None:
    begun: list[str] = []
    under_way = UnderWay(lambda: begun.append("begun"))
    seen: list[bool] = []
    inner = under_way.counting(lambda _name: seen.append(bool(under_way)))
    under_way.counting(inner)("a")
    assert (seen, begun, bool(under_way)) == ([True], ["begun"], False)

    def fails(_name: str) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        under_way.counting(fails)("a")
    assert not under_way
    inner("b")
    assert len(begun) == 3


def test_looks_are_rare_until_an_analysis_runs(jobs_engine: sa.Engine) -> None:
    ends, started = threading.Event(), threading.Event()

    def run(_analysis_id: str) -> None:
        started.set()
        assert ends.wait(60)

    runner = JobRunner(jobs_engine, "test-0", run)
    rare = runner._patience()
    runner.start()
    try:
        enqueue(jobs_engine, "a")
        assert started.wait(60)
        assert runner._patience() == 1.0 < rare
        ends.set()
        wait_for(lambda: runner._patience() == rare)
    finally:
        ends.set()
        runner.stop(5)
    assert [job.id for job in JobQueue(jobs_engine).jobs(["a"])] == ["a"]
