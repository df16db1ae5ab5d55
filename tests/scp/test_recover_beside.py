"""Recovery beside others: images on their way, a second process, a database that is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from encoded import image
from image_store import ImageStore
from structlog.testing import capture_logs
from waiting import wait_for

from db.claim import claimed
from db.migrate import upgrade
from scp import recover
from scp.reconcile import LOCK_NAME
from scp.recover import Recovery, RecoveryReport


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[ImageStore]:
    made = ImageStore(tmp_path / "data", database_url)
    upgrade(made.engine)
    yield made
    made.close()


def recovery(store: ImageStore, grace_seconds: float) -> Recovery:
    return Recovery(store.files, store.ingest, store.engine, grace_seconds=grace_seconds, rest=0)


def run(store: ImageStore, grace_seconds: float = 0) -> RecoveryReport:
    report = recovery(store, grace_seconds).run_once()
    assert report is not None
    return report


def associations(store: ImageStore) -> list[str]:
    return [row[0] for row in store.rows("SELECT association_id FROM instance ORDER BY id")]


def test_an_image_that_is_being_received_keeps_its_association(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.put()
    patient = recovery(store, grace_seconds=3600)
    waits = []

    def wait(seconds: float) -> None:
        if seconds > 0:  # its row comes meanwhile
            waits.append(seconds)
            store.index(path, "b" * 32)

    monkeypatch.setattr(patient, "_wait", wait)
    report = patient.run_once()
    assert report is not None
    assert report.n_recovered == 0
    assert len(waits) == 1
    assert associations(store) == ["b" * 32]


def test_a_young_file_gets_its_row_if_nobody_else_gives_it_one(store: ImageStore) -> None:
    store.put()
    assert run(store, grace_seconds=0.5).n_recovered == 1


def test_rows_that_wait_for_the_database_come_first(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recover, "_BACKLOG_POLL_SECONDS", 0.05)
    path = store.put()
    spooled = store.files.root / "unindexed" / "1-1-1.jsonl"
    spooled.write_text("{}\n")

    def index() -> None:
        store.index(path, "c" * 32)
        spooled.unlink()

    threading.Timer(0.3, index).start()
    assert run(store).n_recovered == 0
    assert associations(store) == ["c" * 32]


def test_one_process_recovers(store: ImageStore) -> None:
    store.put()
    with claimed(store.files.root / LOCK_NAME) as mine:
        assert mine
        assert recovery(store, 0).run_once() is None
    assert store.count() == 0


def test_it_stops_at_once_and_begins_anew(store: ImageStore) -> None:
    store.put()
    patient = recovery(store, 3600)
    started = time.monotonic()
    patient.start()
    time.sleep(0.5)
    patient.stop()

    assert time.monotonic() - started < 30  # for so long `stop` waits at most
    assert store.count() == 0
    assert run(store).n_recovered == 1


def test_a_database_that_is_away_for_a_moment_is_waited_for(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recover, "_RETRY_SECONDS", 0.1)
    store.put()
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE instance RENAME TO away"))
    stubborn = recovery(store, 0)
    with capture_logs() as log:
        stubborn.start()
        wait_for(lambda: log, what="the first attempt")
        with store.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE away RENAME TO instance"))
        wait_for(lambda: log[-1]["event"] == "recovery.done", every=0.05)
        stubborn.stop()

    events = [one["event"] for one in log]
    assert (events[0], events[-1]) == ("recovery.failed", "recovery.done")
    assert store.count() == 1


# Receives what it is told to, and is killed when the second file has its name and no row.
RECEIVER = """
import os, signal, sys
from pathlib import Path
from db import FileStore, create_engine
from db.backlog import Backlog
from db.group import GroupWriter
from db.ingest import Ingest
from scp.receive import DiskWatermark, Receiver, StoreRequest

files = FileStore(Path(sys.argv[1]))
files.prepare()
ingest = Ingest(create_engine(sys.argv[2]), Backlog(files.root / "unindexed"))
receiver = Receiver(files, ingest, DiskWatermark(files, 0))
for number, line in enumerate(sys.stdin):
    sop_class, uid, syntax, data_set = line.split()
    if number == 2:
        GroupWriter._transaction = lambda self, write: os.kill(os.getpid(), signal.SIGKILL)
    reception = receiver.begin(StoreRequest(sop_class, uid, syntax, "d" * 32, "X"))
    reception.write(memoryview(bytes.fromhex(data_set)))
    reception.flush()
    print("status", reception.finish().status, flush=True)
"""


def test_a_process_killed_between_file_and_row_loses_nothing(
    store: ImageStore, database_url: str
) -> None:
    sent = [image(number) for number in range(3)]
    lines = (
        f"{one.sop_class_uid} {one.sop_instance_uid} {one.transfer_syntax_uid} {one.data.hex()}\n"
        for one in sent
    )
    process = subprocess.run(
        [sys.executable, "-c", RECEIVER, str(store.files.root), database_url],
        input="".join(lines),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=250,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    answers = [line for line in process.stdout.splitlines() if line.startswith("status ")]
    assert answers == ["status 0"] * 2
    assert store.count() == 2
    assert len(list(store.files.images())) == 3

    assert run(store).n_recovered == 1
    assert associations(store) == ["d" * 32, "d" * 32, "recovered"]
    assert store.rows("SELECT count(*) FROM series") == [(1,)]
