"""How a worker ends by itself: in order, without losing or blaming what ran beside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import torch
from waiting import wait_for

from db import create_engine
from db.migrate import upgrade
from db.query import rows_of
from db.worker_events import WorkerStep, count
from db.workers import WorkerIdentity
from inference import job_runner, stuck
from inference.endings import Ending
from inference.engines import DeviceLostError
from inference.engines.engine_events import Event, Step
from inference.event_book import EventBook
from inference.job_engine import QUEUE
from inference.job_states import JobState, Priority
from inference.jobs import JobQueue, prepare
from inference.memory import MemoryMark
from inference.stuck import StuckExit
from inference.worker import Worker
from inference.worker_settings import WorkerSettings


class Facts:
    def index_new(self, _most: int) -> None:
        pass


class FakeAnalyst:
    """Does what it is told instead of analysing."""

    def __init__(self, does: Callable[[str], None]) -> None:
        self.facts = Facts()
        self.does = does
        self.failed: list[tuple[str, str, str]] = []
        self.ended: list[str] = []

    def analyse(self, analysis_id: str) -> None:
        self.does(analysis_id)
        self.ended.append(analysis_id)

    def fail(self, analysis_id: str, code: str, reason: str) -> None:
        self.failed.append((analysis_id, code, reason))


def worker_of(
    engine: sa.Engine, analyst: FakeAnalyst, book: EventBook | None = None, **settings: Any
) -> Worker:
    identity = WorkerIdentity("host-0", "host", os.getpid(), "cuda:0", ("m",))
    chosen = WorkerSettings(**{"grace_seconds": 1, **settings})
    return Worker(engine, analyst, identity, chosen, book)  # type: ignore[arg-type]


def enqueue(engine: sa.Engine, *names: str) -> JobQueue:
    queue = JobQueue(engine)
    with engine.begin() as connection:
        for name in names:
            queue.enqueue(connection, name, Priority.ROUTINE)
    return queue


def takes_no_more(worker: Worker) -> bool:
    """Tell whether a worker that ends looks for no job any more."""
    pauses = worker._runner._pauses
    return bool(pauses) and all(one.is_set() for one in pauses)


def is_seen(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what is set when a worker has seen that it has to end."""
    seen, say_why = threading.Event(), worker._say_why

    def says(ending: Ending) -> None:
        say_why(ending)
        seen.set()

    monkeypatch.setattr(worker, "_say_why", says)
    return seen


def test_a_lost_gpu_ends_the_worker_when_what_runs_has_ended(engine: sa.Engine) -> None:
    queue = enqueue(engine, "one", "two")
    book = EventBook(engine, "host-0", "cuda:0")
    troubles: list[object] = []

    def loses(_analysis: str) -> None:
        book.tell(Event(Step.DEVICE_LOST, "torch-cuda", "cuda:0", 4, "fallen off the bus"))
        wait_for(lambda: takes_no_more(worker))  # what goes on on the CPU
        with engine.connect() as connection:
            troubles.extend(row["trouble"] for row in rows_of(connection, "v_workers",
                                                              order_by="worker"))  # fmt: skip

    analyst = FakeAnalyst(loses)
    worker = worker_of(engine, analyst, book)
    assert worker.serve(threading.Event()) is Ending.DEVICE_LOST
    assert len(analyst.ended) == 1
    assert troubles == ["fallen off the bus; a new process takes over"]
    (left,) = [name for name in ("one", "two") if name not in analyst.ended]
    assert [job.state for job in queue.jobs([left])] == [JobState.QUEUED]
    with engine.connect() as connection:
        (event,) = rows_of(connection, "v_worker_events", order_by="event_id")
    assert (event["step"], event["analysis_id"]) == ("device_lost", analyst.ended[0])


class Grown(MemoryMark):
    def raised_for(self, at_start: int) -> bool:
        return False

    def passed(self) -> int | None:
        return 2 << 30


def test_grown_memory_ends_the_worker_between_analyses(engine: sa.Engine) -> None:
    queue = enqueue(engine, "one", "two")
    analyst = FakeAnalyst(lambda _analysis: None)

    book = EventBook(engine, "host-0", "cuda:0")
    worker = worker_of(engine, analyst, book, memory=Grown(1 << 30))
    assert worker.serve(threading.Event()) is Ending.RECYCLED
    assert 1 <= len(analyst.ended) <= 2
    assert len(queue.live("one")) + len(queue.live("two")) == 2 - len(analyst.ended)
    with engine.connect() as connection:
        (event,) = rows_of(connection, "v_worker_events", order_by="event_id")
    assert event["step"] == "recycled"
    assert "2048 MiB in use, more than the mark of 1024 MiB" in event["reason"]


def test_stat_goes_on_while_routine_analyses_end_because_memory_has_grown(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = enqueue(engine, "short", "long", "later")
    urgent_ended, order = threading.Event(), []

    def analyses(analysis: str) -> None:
        if analysis == "long":
            assert seen.wait(60)
            with engine.begin() as connection:
                queue.enqueue(connection, "urgent", Priority.STAT)
            assert urgent_ended.wait(60)
        order.append(analysis)
        if analysis == "urgent":
            urgent_ended.set()

    analyst = FakeAnalyst(analyses)
    worker = worker_of(engine, analyst, memory=Grown(1 << 30), concurrency=2)
    seen = is_seen(worker, monkeypatch)
    assert worker.serve(threading.Event()) is Ending.RECYCLED
    assert order == ["short", "urgent", "long"]
    assert [job.state for job in queue.jobs(["later"])] == [JobState.QUEUED]


def test_on_a_device_that_is_lost_meanwhile_no_stat_is_taken(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = enqueue(engine, "short", "long")
    book = EventBook(engine, "host-0", "cuda:0")
    ends = threading.Event()

    def analyses(analysis: str) -> None:
        if analysis == "long":
            assert seen.wait(60)
            book.tell(Event(Step.DEVICE_LOST, "torch-cuda", "cuda:0", 4, "fallen off the bus"))
            ends_in_time.append(ends.wait(60))

    analyst = FakeAnalyst(analyses)
    ends_in_time: list[bool] = []
    worker = worker_of(engine, analyst, book, memory=Grown(1 << 30), concurrency=2)
    seen = is_seen(worker, monkeypatch)
    stop_runner = worker._runner.stop

    def stops(seconds: int) -> None:
        ends.set()
        stop_runner(seconds)

    monkeypatch.setattr(worker._runner, "stop", stops)
    assert worker.serve(threading.Event()) is Ending.RECYCLED
    assert sorted(analyst.ended) == ["long", "short"]
    assert ends_in_time == [True]
    queue.close()


def test_models_that_take_all_of_it_are_told_of_once_and_work_goes_on(engine: sa.Engine) -> None:
    enqueue(engine, "one")
    stop = threading.Event()
    analyst = FakeAnalyst(lambda _analysis: stop.set())
    book = EventBook(engine, "host-0", "cuda:0")
    worker = worker_of(engine, analyst, book, memory=MemoryMark(1 << 20))
    assert worker.serve(stop) is Ending.STOPPED
    with engine.connect() as connection:
        (event,) = rows_of(connection, "v_worker_events", order_by="event_id")
    assert event["step"] == "memory_mark_too_low"
    assert "inference.memory_mb" in event["reason"]


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: unspecified launch failure"),
        DeviceLostError("the GPU is lost"),
    ],
)
def test_what_lies_on_a_lost_gpu_is_left_to_the_next_process(
    engine: sa.Engine, error: Exception
) -> None:
    queue = enqueue(engine, "one")

    def loses(_analysis: str) -> None:
        raise error

    analyst = FakeAnalyst(loses)
    book = EventBook(engine, "host-0", "cuda:0")
    assert worker_of(engine, analyst, book).serve(threading.Event()) is Ending.DEVICE_LOST
    assert analyst.failed == []
    assert len(queue.live("one")) == 1


@pytest.mark.parametrize("priority", list(Priority))
def test_what_is_left_to_the_next_process_is_not_taken_here_again(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, priority: Priority
) -> None:
    """However long it takes until the worker sees that it has to end."""
    queue = JobQueue(engine)
    with engine.begin() as connection:
        queue.enqueue(connection, "one", priority)
    begun: list[str] = []
    looks: list[bool] = []

    def loses(analysis: str) -> None:
        begun.append(analysis)
        raise DeviceLostError("the GPU is lost")

    worker = worker_of(engine, FakeAnalyst(loses))
    leaves = worker._runner._leaves

    def looked(leaves: Callable[[], bool]) -> bool:
        looks.append(leaves())
        return looks[-1]

    for name in list(leaves):
        monkeypatch.setitem(leaves, name, partial(looked, leaves[name]))

    def is_busy_elsewhere() -> None:
        wait_for(lambda: len(queue.jobs(["one"])) == 2)
        before = len(looks)
        wait_for(lambda: len(looks) >= before + 6)

    monkeypatch.setattr(worker, "_look_after", is_busy_elsewhere)
    assert worker.serve(threading.Event()) is Ending.DEVICE_LOST
    assert begun == ["one"]
    assert [job.state for job in queue.live("one")] == [JobState.QUEUED]


def test_what_is_left_to_the_next_process_is_not_taken_by_a_look_under_way(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has asked whether it may take, and has not taken yet, when the device is lost."""
    queue = enqueue(engine, "one")
    is_looking, is_lost, has_looked = (threading.Event() for _ in range(3))
    begun: list[str] = []

    def loses(analysis: str) -> None:
        begun.append(analysis)
        assert len(begun) > 1 or is_looking.wait(60)
        raise DeviceLostError("the GPU is lost")

    book = EventBook(engine, "host-0", "cuda:0")
    lose = book.lose

    def loses_it(name: str, error: Exception) -> None:
        lose(name, error)
        is_lost.set()

    monkeypatch.setattr(book, "lose", loses_it)
    # A slot for one more, or nobody would look.
    worker = worker_of(engine, FakeAnalyst(loses), book, concurrency=2)
    count = job_runner.count_claims

    def slow(system: Any, active: Any, claims: Any) -> None:
        count(system, active, claims)
        claim = system.start_queued_workflows

        def claims_late(taken_of: Any, *given: Any, **how: Any) -> Any:
            if begun and taken_of.name == QUEUE and not is_looking.is_set():
                is_looking.set()
                assert is_lost.wait(60)
                # Time to put the job into the queue, for who does not wait for this look.
                has_looked.wait(1)
                taken = claim(taken_of, *given, **how)
                has_looked.set()
                return taken
            return claim(taken_of, *given, **how)

        system.start_queued_workflows = claims_late

    monkeypatch.setattr(job_runner, "count_claims", slow)

    def is_busy_elsewhere() -> None:
        wait_for(lambda: has_looked.is_set() and queue.jobs(["one"])[1:])
        time.sleep(0.5)  # for what it took to begin

    monkeypatch.setattr(worker, "_look_after", is_busy_elsewhere)
    assert worker.serve(threading.Event()) is Ending.DEVICE_LOST
    assert begun == ["one"]
    assert [job.state for job in queue.live("one")] == [JobState.QUEUED]


class Telling(FakeAnalyst):
    """Whose worker is told to stop at the first failure."""

    def __init__(self, does: Callable[[str], None], stop: threading.Event) -> None:
        super().__init__(does)
        self._stop = stop

    def fail(self, analysis_id: str, code: str, reason: str) -> None:
        super().fail(analysis_id, code, reason)
        self._stop.set()


@contextmanager
def stopped_at_last(stop: threading.Event) -> Iterator[None]:
    """Stop a worker that nothing else has stopped for so long."""
    timer = threading.Timer(120, stop.set)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def test_want_of_memory_where_input_is_made_is_coded(engine: sa.Engine) -> None:
    enqueue(engine, "one")
    stop = threading.Event()

    def full(_analysis: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    analyst = Telling(full, stop)
    with stopped_at_last(stop):
        worker_of(engine, analyst).serve(stop)
    assert [(name, code) for name, code, _ in analyst.failed] == [("one", "out_of_memory")]


def test_what_is_no_exception_ends_the_analysis_too(engine: sa.Engine) -> None:
    queue = enqueue(engine, "one")
    stop = threading.Event()

    class Panic(BaseException):
        """As libraries of Rust raise it."""

    def panics(_analysis: str) -> None:
        raise Panic("said of a patient")

    analyst = Telling(panics, stop)
    with stopped_at_last(stop):
        worker_of(engine, analyst, grace_seconds=60).serve(stop)
    ((name, code, reason),) = analyst.failed
    assert (name, code) == ("one", "error")
    assert reason.startswith("Panic at test_worker_endings.py")
    assert [job.state for job in queue.jobs(["one"])] == [JobState.ENDED]


def test_what_fails_beside_the_analyses_does_not_end_them(engine: sa.Engine) -> None:
    enqueue(engine, "one")
    stop = threading.Event()
    looked = threading.Event()

    def waits(_analysis: str) -> None:
        assert looked.wait(60)
        stop.set()

    analyst = FakeAnalyst(waits)

    class Full(Facts):
        def index_new(self, _most: int) -> None:
            looked.set()
            raise RuntimeError("can't start new thread")

    analyst.facts = Full()
    with stopped_at_last(stop):
        assert worker_of(engine, analyst, grace_seconds=60).serve(stop) is Ending.STOPPED
    assert analyst.ended == ["one"]


def test_what_fails_while_it_ends_does_not_end_what_it_still_runs(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(engine, "one")
    stop = threading.Event()
    failed: list[int] = []

    def runs_on(_analysis: str) -> None:
        stop.set()
        wait_for(lambda: failed)

    analyst = FakeAnalyst(runs_on)
    worker = worker_of(engine, analyst, grace_seconds=60)

    def full() -> None:
        if stop.is_set():
            failed.append(1)
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr("inference.worker.BEAT_SECONDS", 0.1)
    monkeypatch.setattr(worker, "_beat", full)
    assert worker.serve(stop) is Ending.STOPPED
    assert analyst.ended == ["one"]


@pytest.fixture
def facts(database_url: str) -> Iterator[sa.Engine]:
    made = create_engine(database_url)
    upgrade(made)
    prepare(made)
    yield made
    made.dispose()


RUNNER = """
import sys, time
from pathlib import Path
from db import create_engine
from inference.job_runner import JobRunner
def run(name):
    Path(sys.argv[2], name).touch()
    time.sleep(600)
JobRunner(create_engine(sys.argv[1]), "host-0", run, 2).start()
time.sleep(600)
"""


def test_others_are_put_back_and_the_stuck_one_is_given_up_the_second_time(
    facts: sa.Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(stuck.os, "_exit", statuses.append)
    monkeypatch.setattr(stuck, "_LAST_WORDS_SECONDS", 120.0)
    queue = enqueue(facts, "stuck", "beside")
    # Another process runs both, and is gone before anybody takes up what is put back.
    begun = tmp_path / "begun"
    begun.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, database_url, str(begun)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: len(list(begun.iterdir())) == 2, 120)
    finally:
        process.kill()
        process.wait()
    failed: list[tuple[str, str, str]] = []
    ends = StuckExit(
        facts,
        EventBook(facts, "host-0", "cuda:0"),
        8.0,
        running=lambda: ("stuck", "beside"),
        fail=lambda *said: failed.append(said),
        put_back=lambda names: queue.put_back(names, "host-0"),
    )
    before = {job.analysis_id: job for job in queue.jobs(["stuck", "beside"])}
    assert {job.state for job in before.values()} == {JobState.RUNNING}
    assert before["beside"].attempts == 1
    ends("stuck")
    assert (statuses, failed) == ([70], [])
    # Another process has room for it at once, as if it had not begun.
    after = {job.analysis_id: job for job in queue.jobs(["stuck", "beside"])}
    assert after["stuck"].state is JobState.RUNNING
    assert (after["beside"].state, after["beside"].attempts) == (JobState.QUEUED, 0)
    ends("stuck")
    assert [(name, code) for name, code, _ in failed] == [("stuck", "stuck")]
    assert "longer than 8 s, 2 times" in failed[0][2]
    with facts.connect() as connection:
        assert count(connection, WorkerStep.STUCK, analysis_id="stuck") == 2


def test_of_those_that_share_a_batch_each_is_suspected_once_and_who_waits_is_not(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stuck.os, "_exit", lambda _status: None)
    monkeypatch.setattr(stuck, "_LAST_WORDS_SECONDS", 120.0)
    failed: list[str] = []
    back: list[str] = []
    sharing = [("a", "b"), ("b",)]
    ends = StuckExit(
        engine,
        EventBook(engine, "host-0", "cuda:0"),
        8.0,
        running=lambda: ("waits", "a", "b"),
        fail=lambda name, _code, _reason: failed.append(name),
        put_back=back.extend,
        suspects=lambda _late: sharing.pop(0),
    )
    ends("waits")  # it runs longest, because it waits for the others
    assert (failed, back) == ([], ["waits"])
    assert [stuck.was_stuck(engine, name) for name in ("a", "b", "waits")] == [True, True, False]
    ends("b")  # alone
    assert (failed, back) == (["b"], ["waits", "waits", "a"])
