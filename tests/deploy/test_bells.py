"""Bells ring in every process that listens, and nobody depends on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

from waiting import wait_for

from deploy.bells import Bell, bell, hearing, is_heard

ROOT = Path(__file__).parents[2]
_LISTENER = """
import sys, threading
from pathlib import Path
from deploy.bells import Bell, hearing
with hearing(Path(sys.argv[1]), Bell.JOBS, lambda: print("heard", flush=True)):
    print("ready", flush=True)
    threading.Event().wait()
"""


def _pipes(folder: Path) -> list[Path]:
    return sorted((folder / "bells").iterdir())


def _listener(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _LISTENER, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_all_who_listen_for_it_hear_it_and_others_do_not(tmp_path: Path) -> None:
    jobs, outbox = threading.Event(), threading.Event()
    process = _listener(tmp_path)
    try:
        with (
            hearing(tmp_path, Bell.JOBS, jobs.set),
            hearing(tmp_path, Bell.OUTBOX, outbox.set),
        ):
            bell(tmp_path, Bell.JOBS)()
            assert jobs.wait(60)
            assert process.stdout is not None
            assert process.stdout.readline() == "heard\n"
            assert not outbox.is_set()
    finally:
        process.kill()
        process.wait()
    assert len(_pipes(tmp_path)) == 1  # that of the one that was killed


def test_many_rings_are_heard_a_few_times_and_never_block(tmp_path: Path) -> None:
    heard: list[float] = []
    ring = bell(tmp_path, Bell.OUTBOX)
    with hearing(tmp_path, Bell.OUTBOX, lambda: heard.append(time.monotonic())):
        for _ in range(100_000):  # more than a pipe holds
            ring()
        last = time.monotonic()
        # What was rung last may have been heard already.
        wait_for(lambda: heard and (heard[-1] >= last or time.monotonic() > last + 0.5), every=0.01)
    assert 0 < len(heard) < 10_000
    between = [later - before for before, later in pairwise(heard)]
    assert all(one >= 0.04 for one in between)


def test_without_a_listener_or_a_folder_nothing_happens(tmp_path: Path) -> None:
    bell(tmp_path / "nowhere", Bell.JOBS)()
    with hearing(tmp_path, Bell.JOBS, lambda: None):
        pass
    bell(tmp_path, Bell.JOBS)()
    assert _pipes(tmp_path) == []


def test_a_folder_that_cannot_be_had_costs_the_bell_only(tmp_path: Path) -> None:
    (tmp_path / "bells").write_text("in the way")
    with hearing(tmp_path, Bell.JOBS, lambda: None):
        bell(tmp_path, Bell.JOBS)()


def test_pipes_of_the_killed_are_taken_away_a_day_later(tmp_path: Path) -> None:
    process = _listener(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = _pipes(tmp_path)
    bell(tmp_path, Bell.JOBS)()  # nobody reads it, and nobody waits
    long_ago = time.time() - 100_000
    os.utime(left, (long_ago, long_ago))
    other = _listener(tmp_path)
    try:
        living = [one for one in _pipes(tmp_path) if one != left]
        assert len(living) == 1
        assert not left.exists()
        os.utime(living[0], (long_ago, long_ago))
        with hearing(tmp_path, Bell.OUTBOX, lambda: None):
            assert living[0].exists()  # old, but somebody reads it
    finally:
        other.kill()
        other.wait()


def test_a_pipe_that_cannot_be_rung_does_not_silence_the_others(tmp_path: Path) -> None:
    heard = [threading.Event(), threading.Event()]
    with hearing(tmp_path, Bell.JOBS, heard[0].set), hearing(tmp_path, Bell.JOBS, heard[1].set):
        # Before, between and behind the pipes, whatever they are called; it takes nothing.
        for name in ("jobs-", "jobs-8", "jobs-g"):
            (tmp_path / "bells" / name).symlink_to("/dev/full")
        bell(tmp_path, Bell.JOBS)()
        assert all(one.wait(60) for one in heard)


def test_who_listens_is_seen_without_a_ring(tmp_path: Path) -> None:
    heard = threading.Event()
    assert not is_heard(tmp_path, Bell.JOBS)
    process = _listener(tmp_path)
    try:
        with hearing(tmp_path, Bell.OUTBOX, heard.set):
            assert is_heard(tmp_path, Bell.JOBS)
            assert is_heard(tmp_path, Bell.OUTBOX)
            assert not heard.wait(0.3)
        assert not is_heard(tmp_path, Bell.OUTBOX)
    finally:
        process.kill()
        process.communicate()
    assert _pipes(tmp_path)  # what a killed one leaves is no listener
    assert not is_heard(tmp_path, Bell.JOBS)
