"""Syncs of a file and its folder: both in any case, at once where the disk is slow."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_ISDIR
from types import SimpleNamespace
from typing import NoReturn

import pytest

from db import FileStore
from db.errors import DatabaseError, StorageFullError
from db.syncs import Syncs

HEAD = bytes(128) + b"DICM"


class Disk:
    """Takes the place of `os.fsync`: as slow as wanted, and fails where wanted.

    How slow, a clock of its own tells: what a loaded machine adds is no slow disk.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        # How long the sync of a file may take until two have been under way at once.
        self.patience = 0.0
        self.on_folder: OSError | None = None
        self.synced: list[tuple[bool, threading.Thread]] = []
        self.at_once = self.most_at_once = 0
        self._guard = threading.Lock()
        self._passed = threading.local()
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr("db.syncs.time", SimpleNamespace(perf_counter=self.clock))

    def clock(self) -> float:
        return getattr(self._passed, "seconds", 0.0)

    def fsync(self, descriptor: int) -> None:
        is_folder = S_ISDIR(os.fstat(descriptor).st_mode)
        with self._guard:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        if not is_folder:
            self._await_another()
        time.sleep(self.seconds)
        self._passed.seconds = self.clock() + self.seconds
        with self._guard:
            self.at_once -= 1
            self.synced.append((is_folder, threading.current_thread()))
        if is_folder and self.on_folder is not None:
            raise self.on_folder

    def _await_another(self) -> None:
        end = time.monotonic() + self.patience
        while self.most_at_once < 2 and time.monotonic() < end:
            time.sleep(0.001)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr("db.pace.SLOW_SECONDS", 0.01)
    return Disk(monkeypatch)


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    store = FileStore(tmp_path)
    store.prepare()
    return store


def test_on_a_fast_disk_no_other_thread_is_asked(files: FileStore, disk: Disk) -> None:
    for number in range(20):
        files.write_image(f"1.2.{number}", HEAD, b"data")
    assert [is_folder for is_folder, _ in disk.synced] == [False, True] * 20
    assert {thread for _, thread in disk.synced} == {threading.current_thread()}


def test_on_a_slow_disk_file_and_folder_are_synced_at_once(files: FileStore, disk: Disk) -> None:
    disk.seconds = 0.02
    for number in range(12):
        files.write_image(f"1.2.{number}", HEAD, b"data")
    disk.most_at_once = 0
    disk.patience = 20.0
    disk.synced.clear()
    for number in range(10):
        files.write_image(f"1.3.{number}", HEAD, b"data")
    assert disk.most_at_once == 2
    assert sorted(is_folder for is_folder, _ in disk.synced) == [False] * 10 + [True] * 10


def test_a_sync_that_takes_long_now_and_then_is_no_slow_disk(files: FileStore, disk: Disk) -> None:
    for number in range(24):
        disk.seconds = 0.02 if number % 3 else 0.0
        files.write_image(f"1.2.{number}", HEAD, b"data")
    assert {thread for _, thread in disk.synced} == {threading.current_thread()}


def test_many_threads_on_a_slow_disk(files: FileStore, disk: Disk) -> None:
    disk.seconds = 0.02
    with ThreadPoolExecutor(40) as pool:
        kept = list(pool.map(lambda n: files.write_image(f"1.2.{n}", HEAD, b"x"), range(400)))
    assert len({one.path for one in kept}) == 400
    assert sum(is_folder for is_folder, _ in disk.synced) == 400


def test_a_disk_that_is_fast_again_is_noticed(disk: Disk, tmp_path: Path) -> None:
    syncs = Syncs()
    with (tmp_path / "file").open("wb") as file:
        for seconds, n in ((0.02, 12), (0.0, 32)):
            disk.seconds = seconds
            for _ in range(n):
                syncs.file_and_folder(file.fileno(), str(tmp_path))
        assert syncs.pace.seconds < 0.01
        disk.synced.clear()
        syncs.file_and_folder(file.fileno(), str(tmp_path))
    assert {thread for _, thread in disk.synced} == {threading.current_thread()}


@pytest.mark.parametrize("is_slow", [False, True])
@pytest.mark.parametrize(
    ("number", "expected"), [(28, StorageFullError), (5, DatabaseError)], ids=["full", "broken"]
)
def test_a_folder_that_cannot_be_synced_leaves_no_image(
    files: FileStore, disk: Disk, is_slow: bool, number: int, expected: type[Exception]
) -> None:
    if is_slow:
        disk.seconds = 0.02
        for n in range(8):
            files.write_image(f"1.3.{n}", HEAD, b"data")
    disk.on_folder = OSError(number, os.strerror(number))
    with pytest.raises(expected):
        files.write_image("1.2.3", HEAD, b"data")
    assert not list(files.root.glob("images/*/1.2.3*"))
    disk.on_folder = None
    files.write_image("1.2.3", HEAD, b"data")


def test_without_another_thread_the_folder_is_synced_all_the_same(
    files: FileStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.seconds = 0.02
    for n in range(7):  # the next one would be the first to ask for another thread
        files.write_image(f"1.3.{n}", HEAD, b"data")

    def refuse(_thread: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    disk.synced.clear()
    files.write_image("1.2.3", HEAD, b"data")
    assert [is_folder for is_folder, _ in disk.synced] == [False, True]


def test_a_disk_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    program = """
import os, sys, threading, time
from stat import S_ISDIR
from pathlib import Path
from db import FileStore
store = FileStore(Path(sys.argv[1]))
store.prepare()
hangs, hanging = False, threading.Event()
def fsync(descriptor):
    time.sleep(0.02)
    if hangs and S_ISDIR(os.fstat(descriptor).st_mode):
        hanging.set()
        threading.Event().wait()
os.fsync = fsync
head = bytes(128) + b"DICM"
for number in range(12):
    store.write_image(f"1.2.{number}", head, b"data")
hangs = True
threading.Thread(target=store.write_image, args=("1.3", head, b""), daemon=True).start()
assert hanging.wait(60)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=120)
    assert done.returncode == 0
