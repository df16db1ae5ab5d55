"""A worker whose analysis does not end in the time it was given: real processes and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from queued_jobs import enqueue

from db import create_engine
from db.migrate import upgrade
from inference.job_states import JobState
from inference.jobs import JobQueue, prepare

# The worker itself, with an analysis that takes ten minutes.
_WORKER = """
import time
from inference.analyst import Analyst
def analyse(self, analysis):
    print("begun", flush=True)
    time.sleep(600)
    print("ended", flush=True)
Analyst.analyse = analyse
from deploy.cli import main
main()
"""
# A process that a thread holds up.
_HELD = """
import threading, time
from deploy.ending import end_soon
def stays():
    time.sleep(600)
threading.Thread(target=stays, name="stays").start()
end_soon(72, 0.3)
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}


def test_a_worker_ends_with_its_grace_though_an_analysis_goes_on(tmp_path: Path) -> None:
    data, config = tmp_path / "data", tmp_path / "preread.toml"
    data.mkdir()
    config.write_text(
        f'data_dir = "{data}"\n[inference]\nshipped = false\ndevice = "cpu"\nworkers = 1\n'
        "grace_seconds = 1\ndecode_processes = 0\n"
    )
    engine = create_engine(f"sqlite:///{data / 'preread.sqlite'}")
    upgrade(engine)
    prepare(engine)
    enqueue(engine, "one")
    with subprocess.Popen(
        [sys.executable, "-c", _WORKER, "worker", "--config", str(config)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGTERM)
            # Without the grace and what the job engine takes to stop: at once.
            told, said = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, told) == (0, "")
    assert "worker.stopped" in said
    # Whoever comes next begins it again: that it was begun once is no fault of its.
    (job,) = JobQueue(engine).jobs(["one"])
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)
    engine.dispose()


def test_what_holds_up_the_end_of_a_process_is_named(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _HELD], capture_output=True, text=True, timeout=120, check=False,
        env=environment(), cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 72
    assert "process.held_up" in ended.stdout
    assert "stays" in ended.stdout
