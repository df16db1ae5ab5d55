"""Names of workers: the same after each restart, and another in each data directory."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa

from db.workers import WorkerIdentity, enter, workers
from inference.job_states import JobState, Priority
from inference.jobs import JobQueue
from inference.takeover import Takeover
from inference.worker_id import claim_worker_id, is_gone, name_stem

HOST = socket.gethostname()


@pytest.fixture
def queue(engine: sa.Engine) -> JobQueue:
    return JobQueue(engine)


def runs(engine: sa.Engine, queue: JobQueue, worker: str, pid: int, analysis: str) -> None:
    """Enter a worker of this host that runs an analysis."""
    with engine.begin() as connection:
        enter(connection, WorkerIdentity(worker, HOST, pid, "cpu", ("m",)))
        queue.enqueue(connection, analysis, Priority.ROUTINE)
        connection.execute(
            sa.text(
                "UPDATE workflow_status SET status = 'PENDING', executor_id = :worker "
                "WHERE workflow_uuid = :analysis"
            ),
            {"worker": worker, "analysis": analysis},
        )


def state(queue: JobQueue, analysis: str) -> JobState:
    (job,) = queue.jobs([analysis])
    return job.state


def test_a_name_says_host_data_directory_and_device_and_stays(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with claim_worker_id(tmp_path / "workers", "cpu") as name:
            assert re.fullmatch(rf"{re.escape(HOST)}-[a-z2-7]{{6}}-cpu-0", name)
            names.add(name)
    (name,) = names
    with claim_worker_id(tmp_path / "workers", "cuda:1") as on_gpu:
        assert on_gpu == name.replace("-cpu-0", "-cuda1")
    assert name == f"{name_stem(tmp_path / 'workers')}-cpu-0"


def test_two_data_directories_of_one_host_and_one_database(
    engine: sa.Engine, queue: JobQueue, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with claim_worker_id(ours, "cpu") as mine, claim_worker_id(theirs, "cpu") as other:
        assert mine != other
        runs(engine, queue, mine, os.getpid(), "a")
        # Containers: each has its own process ids, and this one is none of ours.
        runs(engine, queue, other, 2**22 + 1, "b")
        identity = WorkerIdentity(mine, HOST, os.getpid(), "cpu", ("m",))
        takeover = Takeover(engine, queue, identity, 120, partial(is_gone, ours))
        takeover.of_the_gone()
        with engine.begin() as connection:
            enter(connection, identity)
            takeover.of_the_predecessor(connection)
        assert (state(queue, "a"), state(queue, "b")) == (JobState.QUEUED, JobState.RUNNING)
    takeover.of_the_gone()  # that one has ended, and nobody can know it here
    with engine.connect() as connection:
        assert {one.id for one in workers(connection)} == {mine, other}
    assert state(queue, "b") is JobState.RUNNING


def test_workers_that_start_at_once_agree(tmp_path: Path) -> None:
    number = 8
    together = Barrier(number)
    with ExitStack() as stack, ThreadPoolExecutor(number) as threads:

        def claim(_number: int) -> str:
            together.wait(60)
            return stack.enter_context(claim_worker_id(tmp_path / "workers", "cpu"))

        names = list(threads.map(claim, range(number)))
    assert sorted(name.rpartition("-")[2] for name in names) == [str(n) for n in range(number)]
    assert len({name.rpartition("-")[0] for name in names}) == 1


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"abc", b"abcdef", b"ABCDEF\n", b"abcdefg\n", b"../../\n", b"\xff" * 7]
)
def test_a_damaged_tag_is_made_anew_and_who_runs_keeps_its_name(
    tmp_path: Path, content: bytes
) -> None:
    with claim_worker_id(tmp_path, "cpu") as before:
        (tmp_path / "tag").write_bytes(content)
        with claim_worker_id(tmp_path, "cpu") as after:
            assert after != before
            assert not is_gone(tmp_path, before, os.getpid())
        with claim_worker_id(tmp_path, "cpu") as again:
            assert again == after
    assert is_gone(tmp_path, before, os.getpid())


# As versions without a tag claimed their names.
OLDER = """
import fcntl, os, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
file.truncate(0)
print(os.getpid(), file=file, flush=True)
print("there", flush=True)
time.sleep(600)
"""


@pytest.fixture
def older(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "workers").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", OLDER, str(tmp_path / "workers" / f"{HOST}-cpu-0.lock")],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            yield process
        finally:
            process.kill()


def test_what_a_worker_of_an_older_version_left_is_taken_over(
    engine: sa.Engine, queue: JobQueue, tmp_path: Path, older: subprocess.Popen[str]
) -> None:
    folder, old_name = tmp_path / "workers", f"{HOST}-cpu-0"
    runs(engine, queue, old_name, older.pid, "a")
    with claim_worker_id(folder, "cpu") as name:
        identity = WorkerIdentity(name, HOST, os.getpid(), "cpu", ("m",))
        with engine.begin() as connection:
            enter(connection, identity)
        takeover = Takeover(engine, queue, identity, 120, partial(is_gone, folder))
        takeover.of_the_gone()  # it still runs
        assert state(queue, "a") is JobState.RUNNING
        older.kill()
        older.wait()
        takeover.of_the_gone()
    assert state(queue, "a") is JobState.QUEUED
    with engine.connect() as connection:
        assert [one.id for one in workers(connection)] == [name]
