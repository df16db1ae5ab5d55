"""Who takes over for whom, and when: once, never for one that lives, never by mistake."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from db import create_engine
from db.migrate import upgrade
from db.query import rows_of
from db.workers import WorkerIdentity, beat, enter, leave, workers
from inference.errors import InferenceError
from inference.job_states import JobState, Priority
from inference.jobs import JobQueue, prepare
from inference.takeover import Takeover
from inference.worker_id import claim_worker_id, is_gone, name_of

ME = WorkerIdentity("host-cpu-0", "host", 1, "cpu", ("m",))
OTHER = WorkerIdentity("host-cpu-1", "host", 2, "cpu", ("m",))
FAR = WorkerIdentity("far-cpu-0", "far", 3, "cpu", ("m",))


@pytest.fixture
def facts(database_url: str) -> Iterator[sa.Engine]:
    made = create_engine(database_url)
    upgrade(made)
    prepare(made)
    with made.begin() as connection:
        for one in (ME, OTHER, FAR):
            enter(connection, one)
    yield made
    made.dispose()


def running(engine: sa.Engine, executor: str, *names: str) -> JobQueue:
    queue = JobQueue(engine)
    schema = "" if engine.dialect.name == "sqlite" else "dbos."
    with engine.begin() as connection:
        for name in names:
            queue.enqueue(connection, name, Priority.ROUTINE)
            connection.execute(
                sa.text(
                    f"UPDATE {schema}workflow_status SET status='PENDING', executor_id=:executor "
                    "WHERE workflow_uuid = :name"
                ),
                {"executor": executor, "name": name},
            )
    return queue


def listed(engine: sa.Engine) -> set[str]:
    with engine.connect() as connection:
        return {one.id for one in workers(connection)}


def states(queue: JobQueue, *names: str) -> list[JobState]:
    return [job.state for name in names for job in queue.jobs([name])]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_jobs_of_a_process_that_is_gone_are_queued_once_and_told_of(facts: sa.Engine) -> None:
    queue = running(facts, OTHER.id, "a", "b")
    running(facts, ME.id, "mine")
    asked: list[tuple[str, int]] = []

    def gone(worker: str, pid: int) -> bool:
        asked.append((worker, pid))
        return True

    told: list[str] = []
    takeover = Takeover(facts, queue, ME, 120, gone, told.append)
    takeover.of_the_gone()
    takeover.of_the_gone()
    assert asked == [(OTHER.id, 2)]  # never of another host, never of itself
    assert states(queue, "a", "b", "mine") == [JobState.QUEUED, JobState.QUEUED, JobState.RUNNING]
    assert listed(facts) == {ME.id, FAR.id}
    assert told == ["taken_over", "taken_over"]
    with facts.connect() as connection:
        events = rows_of(connection, "v_worker_events", order_by="event_id")
    assert {row["analysis_id"] for row in events} == {"a", "b"}
    assert {row["worker"] for row in events} == {OTHER.id}
    assert events[0]["reason"] == "its process 2 is gone; host-cpu-0 queued what it was at"


def test_one_that_has_begun_anew_meanwhile_keeps_its_jobs(facts: sa.Engine) -> None:
    queue = running(facts, OTHER.id, "a")

    def gone(_worker: str, _pid: int) -> bool:
        # Between the look and the taking its successor enters, and takes the job up.
        with facts.begin() as connection:
            enter(connection, WorkerIdentity(OTHER.id, "host", 77, "cpu", ("m",)))
        return True

    Takeover(facts, queue, ME, 120, gone).of_the_gone()
    assert states(queue, "a") == [JobState.RUNNING]
    assert listed(facts) == {ME.id, OTHER.id, FAR.id}


def test_of_two_that_take_over_at_once_one_does(facts: sa.Engine) -> None:
    queue = running(facts, OTHER.id, *(f"j{number}" for number in range(20)))
    told: list[str] = []
    third = WorkerIdentity("host-cpu-2", "host", 4, "cpu", ("m",))
    heirs = [
        Takeover(facts, queue, one, 120, lambda worker, _pid: worker == OTHER.id, told.append)
        for one in (ME, third, ME, third)
    ]
    threads = [threading.Thread(target=one.of_the_gone) for one in heirs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(told) == 20
    with facts.connect() as connection:
        assert len(rows_of(connection, "v_worker_events", order_by="event_id")) == 20


def test_a_silent_one_is_given_up_once_nothing_was_heard_for_so_long_here(facts: sa.Engine) -> None:
    queue = running(facts, FAR.id, "a")
    running(facts, OTHER.id, "b")
    clock = Clock()
    takeover = Takeover(facts, queue, ME, 120, clock=clock)
    for _ in range(12):  # its clock may be hours off: what counts is what is heard
        takeover.of_the_silent()
        clock.now += 10
        with facts.begin() as connection:
            assert beat(connection, OTHER.id)
    assert states(queue, "a", "b") == [JobState.RUNNING, JobState.RUNNING]
    takeover.of_the_silent()
    assert states(queue, "a", "b") == [JobState.QUEUED, JobState.RUNNING]
    assert listed(facts) == {ME.id, OTHER.id}
    with facts.begin() as connection:
        assert not beat(connection, FAR.id)  # by which it finds out, if it goes on
    with facts.connect() as connection:
        (event,) = rows_of(connection, "v_worker_events", order_by="event_id")
    assert event["reason"].startswith("nothing was heard of it for 120 s; host-cpu-0 queued")


def test_after_a_database_that_was_away_nobody_is_silent(facts: sa.Engine) -> None:
    queue = running(facts, FAR.id, "a")
    clock = Clock()
    takeover = Takeover(facts, queue, ME, 120, clock=clock)
    takeover.of_the_silent()
    clock.now += 600  # nobody could beat
    for _ in range(12):
        takeover.of_the_silent()
        assert states(queue, "a") == [JobState.RUNNING]
        clock.now += 10
    takeover.of_the_silent()
    assert states(queue, "a") == [JobState.QUEUED]


def test_after_a_database_that_was_away_between_two_looks_nobody_is_silent(
    facts: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = running(facts, FAR.id, "a")
    clock = Clock()
    takeover = Takeover(facts, queue, ME, 15, clock=clock)
    takeover.of_the_silent()
    clock.now += 10
    with monkeypatch.context() as away:
        away.setattr("inference.takeover.workers", raises_away)
        with pytest.raises(sa.exc.OperationalError):
            takeover.of_the_silent()
    clock.now += 10  # nobody could beat for 20 s
    takeover.of_the_silent()
    assert states(queue, "a") == [JobState.RUNNING]
    clock.now += 15
    takeover.of_the_silent()
    assert states(queue, "a") == [JobState.QUEUED]


def test_where_all_were_frozen_together_nobody_is_silent(facts: sa.Engine) -> None:
    """A paused container or virtual machine: the first that goes on has heard nothing of others."""
    queue = running(facts, FAR.id, "a")
    clock = Clock()
    takeover = Takeover(facts, queue, ME, 15, clock=clock)
    takeover.of_the_silent()
    clock.now += 20
    takeover.of_the_silent()
    assert states(queue, "a") == [JobState.RUNNING]
    for _ in range(2):
        clock.now += 10.4
        takeover.of_the_silent()
    assert states(queue, "a") == [JobState.QUEUED]


def raises_away(_connection: sa.Connection) -> None:
    raise sa.exc.OperationalError("SELECT", {}, Exception("away"))


def test_jobs_of_one_without_an_entry_are_queued_at_the_second_look(facts: sa.Engine) -> None:
    queue = running(facts, "frozen-cpu-0", "a")
    running(facts, "late-cpu-0", "b")
    running(facts, OTHER.id, "c")
    running(facts, ME.id, "mine")
    told: list[str] = []
    takeover = Takeover(facts, queue, ME, 120, told=told.append)
    takeover.of_the_unlisted()
    assert states(queue, "a", "b") == [JobState.RUNNING, JobState.RUNNING]
    with facts.begin() as connection:
        enter(connection, WorkerIdentity("late-cpu-0", "late", 9, "cpu", ("m",)))
        leave(connection, ME)  # its own beat ends one that was given up
    takeover.of_the_unlisted()
    assert states(queue, "a") == [JobState.QUEUED]
    assert states(queue, "b", "c", "mine") == [JobState.RUNNING] * 3
    assert told == ["taken_over"]
    takeover.of_the_unlisted()
    with facts.connect() as connection:
        (event,) = rows_of(connection, "v_worker_events", order_by="event_id")
    assert (event["worker"], event["analysis_id"]) == ("frozen-cpu-0", "a")


def test_a_takeover_that_the_database_takes_back_is_not_told_of(
    facts: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = running(facts, OTHER.id, "a")
    told: list[str] = []
    takeover = Takeover(facts, queue, ME, 120, lambda _worker, _pid: True, told.append)

    def lost(_connection: sa.Connection) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, Exception("away"))

    sa.event.listen(facts, "commit", lost)
    with pytest.raises(sa.exc.OperationalError):
        takeover.of_the_gone()
    sa.event.remove(facts, "commit", lost)
    assert (told, states(queue, "a")) == ([], [JobState.RUNNING])
    assert OTHER.id in listed(facts)
    takeover.of_the_gone()
    assert (told, states(queue, "a")) == (["taken_over"], [JobState.QUEUED])


def test_who_leaves_takes_no_other_process_of_its_name_off_the_list(facts: sa.Engine) -> None:
    with facts.begin() as connection:
        enter(connection, WorkerIdentity(ME.id, "host", 99, "cpu", ("m",)))
        leave(connection, ME)
        assert beat(connection, ME.id)


def test_what_an_earlier_process_left_is_queued_and_told_of(facts: sa.Engine) -> None:
    queue = running(facts, ME.id, "a")
    told: list[str] = []
    with facts.begin() as connection:
        say = Takeover(facts, queue, ME, 120, told=told.append).of_the_predecessor(connection)
        assert told == []  # the database may take it back
    say()
    assert told == ["taken_over"]
    assert states(queue, "a") == [JobState.QUEUED]
    with facts.connect() as connection:
        (event,) = rows_of(connection, "v_worker_events", order_by="event_id")
    assert (event["step"], event["analysis_id"]) == ("taken_over", "a")


HOLDER = """
import sys, time
from pathlib import Path
from inference.worker_id import claim_worker_id
with claim_worker_id(Path(sys.argv[1]), "cpu") as name:
    print(name, flush=True)
    time.sleep(600)
"""


def test_a_process_is_gone_once_it_is_killed_and_its_successor_is_another(tmp_path: Path) -> None:
    def holder() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    first, name = holder()
    second = None
    try:
        assert not is_gone(tmp_path, name, first.pid)
        with claim_worker_id(tmp_path, "cpu") as another:  # it looks at the name, and leaves it
            assert another != name
            assert not is_gone(tmp_path, another, os.getpid())
        assert not is_gone(tmp_path, name, first.pid)
        first.kill()
        first.wait()
        assert is_gone(tmp_path, name, first.pid)
        assert not is_gone(tmp_path, "never-there", first.pid)
        second, same = holder()
        assert same == name
        assert is_gone(tmp_path, name, first.pid)  # while the successor still loads its models
        assert not is_gone(tmp_path, name, second.pid)
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()


def test_a_damaged_file_of_a_name_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "host-cpu-0.lock").write_bytes(b"\xff\xfe\n")
    (tmp_path / "host-cpu-1.lock").write_text("77\n")
    assert name_of(tmp_path, 77) == "host-cpu-1"
    with (tmp_path / "host-cpu-0.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not is_gone(tmp_path, "host-cpu-0", 77)


def test_a_file_system_without_locks_is_said_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(_file: object, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without)
    with (
        pytest.raises(InferenceError, match=r"tag cannot be locked \(No locks available\)"),
        claim_worker_id(tmp_path, "cpu"),
    ):
        raise AssertionError("it has no name")


def test_a_name_of_another_folder_proves_nothing_of_a_process_that_lives(tmp_path: Path) -> None:
    """Two data directories of one host, and one database; older versions gave the same names."""
    lock = tmp_path / "host-cpu-0.lock"
    lock.write_text("1\n")
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # Somebody has it here, and it is another.
        assert not is_gone(tmp_path, "host-cpu-0", os.getpid())
    # Nobody has it here any more, and it was another.
    assert not is_gone(tmp_path, "host-cpu-0", os.getpid())
    lock.write_text(f"{os.getpid()}\n")
    assert is_gone(tmp_path, "host-cpu-0", os.getpid())
