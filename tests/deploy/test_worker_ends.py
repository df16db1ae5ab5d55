"""How a worker ended that could not say so: in the database once that is there, and counted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs
from waiting import wait_for

from db import create_engine
from db.migrate import upgrade
from db.query import rows_of
from db.workers import WorkerIdentity, enter
from deploy import worker_ends
from deploy.check import Verdict
from deploy.cli.run import AWAY_STATUS
from deploy.doctor_workers import examine_workers
from deploy.settings import Settings, load
from deploy.supervisor import PartEnd
from deploy.worker_ends import told_of_ends
from inference.worker_id import claim_worker_id


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return load(flags={"data_dir": tmp_path / "data"})


def stored(engine: sa.Engine, number: int) -> list[tuple[str, str, str]]:
    def enough() -> list[tuple[str, str, str]] | None:
        with engine.connect() as connection:
            rows = rows_of(connection, "v_worker_events", order_by="event_id")
        if len(rows) < number:
            return None
        return [(row["worker"], row["step"], row["reason"]) for row in reversed(rows)]

    found: list[tuple[str, str, str]] = wait_for(enough, 120, f"{number} events", every=0.02)
    return found


def test_ends_wait_for_a_database_that_is_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_ends, "_RETRY_SECONDS", 0.05)
    workers = settings.data_dir / "workers"
    workers.mkdir()
    (workers / "host-cpu-0.lock").write_text("4711\n")
    askers: list[threading.Thread] = []

    def asked(*given: Any, **how: Any) -> sa.Engine:
        askers.append(threading.current_thread())
        return create_engine(*given, **how)

    monkeypatch.setattr(worker_ends, "create_engine", asked)
    counted: list[str] = []
    engine = create_engine(settings.db_url)
    with capture_logs() as logs, told_of_ends(settings, {"worker"}, counted.append) as ended:
        ended(PartEnd("worker", 4711, -signal.SIGKILL))
        ended(PartEnd("worker", 4712, 1))
        ended(PartEnd("worker", 4713, -signal.SIGSEGV))
        for status in (0, 70, 71, 72, 73, AWAY_STATUS):  # these it told itself
            ended(PartEnd("worker", 4714, status))
        ended(PartEnd("scp", 4715, -9))
        wait_for(lambda: [one for one in logs if one["event"] == "worker.end_not_stored"])
        upgrade(engine)
        found = stored(engine, 3)
    # Who tells of an end asks no database, and so waits for none.
    assert askers and threading.current_thread() not in askers
    assert [(worker, step) for worker, step, _ in found] == [
        ("host-cpu-0", "killed"),
        ("worker", "crashed"),
        ("worker", "killed"),
    ]
    assert "its process 4711 was killed by SIGKILL; without memory the kernel" in found[0][2]
    assert found[1][2] == "its process 4712 ended with status 1; the log says why"
    assert found[2][2] == "its process 4713 was killed by SIGSEGV"
    assert counted == ["killed", "crashed", "killed"]
    said = [one["event"] for one in logs if one["log_level"] == "error"]
    assert said == ["worker.killed", "worker.crashed", "worker.killed"]
    examined = [(one.verdict, one.message) for one in examine_workers(settings, engine)]
    assert [one for one, _ in examined] == [Verdict.WARNING]
    assert (
        "2 killed, 1 crashed (last worker: its process 4713 was killed by SIGSEGV)"
        in (examined[0][1])
    )
    engine.dispose()


def test_who_ends_does_not_wait_for_a_database_that_stays_away(settings: Settings) -> None:
    began = time.monotonic()
    with told_of_ends(settings, {"worker"}, lambda _step: None) as ended:
        ended(PartEnd("worker", 4711, -9))
    assert time.monotonic() - began < 60


def test_of_a_database_that_stays_away_no_more_than_so_many_wait(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_ends, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(worker_ends, "_MOST_WAITING", 3)
    counted: list[str] = []
    engine = create_engine(settings.db_url)
    with told_of_ends(settings, {"worker"}, counted.append) as ended:
        for pid in range(50):
            ended(PartEnd("worker", pid, 1))
        upgrade(engine)
        stored(engine, 3)
    with engine.connect() as connection:
        # One more may have been in hand.
        assert 3 <= len(rows_of(connection, "v_worker_events", order_by="event_id")) <= 4
    assert len(counted) == 50
    engine.dispose()


def test_an_end_that_no_database_would_take_holds_up_no_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_ends, "_RETRY_SECONDS", 0.05)
    engine = create_engine(settings.db_url)
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TRIGGER refuses BEFORE INSERT ON worker_event "
                "WHEN NEW.reason LIKE '%status 3;%' BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        )
    (settings.data_dir / "workers").mkdir()
    # A name that is no text: raised by the driver itself, not by the database.
    odd = os.fsencode(settings.data_dir / "workers") + b"/\xff-cpu-0.lock"
    Path(os.fsdecode(odd)).write_text("4713\n")
    with capture_logs() as logs, told_of_ends(settings, {"worker"}, lambda _step: None) as ended:
        for pid, status in ((4711, 1), (4712, 3), (4713, 1), (4714, 1)):
            ended(PartEnd("worker", pid, status))
        found = stored(engine, 2)
    assert [reason.split()[2] for _, _, reason in found] == ["4711", "4714"]
    dropped = [one["error"] for one in logs if one["event"] == "worker.end_dropped"]
    assert dropped == ["IntegrityError", "UnicodeEncodeError"]
    engine.dispose()


HOLDER = """
import sys, time
from pathlib import Path
from inference.worker_id import claim_worker_id
with claim_worker_id(Path(sys.argv[1]), "cpu") as name:
    print(name, flush=True)
    time.sleep(600)
"""


def test_doctor_sees_at_once_that_a_process_is_gone(settings: Settings) -> None:
    engine = create_engine(settings.db_url)
    upgrade(engine)
    folder, host = settings.data_dir / "workers", socket.gethostname()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        with engine.begin() as connection:
            enter(connection, WorkerIdentity(name, host, process.pid, "cpu", ("m",)))
            enter(connection, WorkerIdentity(f"{name}1", "elsewhere", process.pid, "cpu", ("m",)))
        with claim_worker_id(folder, "cpu"):
            well = list(examine_workers(settings, engine))
        process.kill()
    assert [one.verdict for one in well] == [Verdict.GOOD, Verdict.GOOD]
    gone, far = examine_workers(settings, engine)
    assert (gone.verdict, far.verdict) == (Verdict.WARNING, Verdict.GOOD)
    assert gone.message.startswith(
        f"{name} has ended without a word: its process {process.pid} is gone"
    )
    engine.dispose()
