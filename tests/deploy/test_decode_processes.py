"""A worker has its decode processes soon, and takes them along however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_for

from db import create_engine
from db.migrate import upgrade
from inference.jobs import prepare

ROOT = Path(__file__).parents[2]


def processes_of(parent: int) -> list[int]:
    """Return the decode processes of a process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(stat[1]) == parent and b"inference.decode_child" in command:
            found.append(int(entry.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_no_decode_process_outlives_its_worker(tmp_path: Path, ending: signal.Signals) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'preread.sqlite'}")
    upgrade(engine)
    prepare(engine)
    engine.dispose()
    settings = {
        "PREREAD_DATA_DIR": str(tmp_path),
        "PREREAD_INFERENCE__SHIPPED": "false",
        "PREREAD_INFERENCE__DECODE_PROCESSES": "2",
        "PYTHONPATH": str(ROOT),
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "deploy", "worker"],
            env={**os.environ, **settings},
            cwd=tmp_path,
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: b"worker.started" in log.read_bytes() or worker.poll() is not None, 120)
        assert worker.poll() is None, log.read_text()
        wait_for(lambda: len(processes_of(worker.pid)) == 2, 120)
        children = processes_of(worker.pid)
        worker.send_signal(ending)
        worker.wait(120)
        wait_for(lambda: not any(is_alive(pid) for pid in children))
    finally:
        worker.kill()
        worker.wait()
    if ending is signal.SIGTERM:
        assert worker.returncode == 0
        assert b"worker.stopped" in log.read_bytes()
        assert b"decode." not in log.read_bytes()
