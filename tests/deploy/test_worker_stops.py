"""A worker that is told to stop before it is ready: the first start exports networks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def test_a_worker_that_exports_stops_at_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PREREAD_INFERENCE__DEVICE": "cpu"}
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy", "worker", "--data-dir", str(data)],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(data.glob("engines/.new-*")):
            assert process.poll() is None
            assert time.monotonic() < deadline, "nothing is exported"
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=6)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert "worker.stopped" in said
    assert "worker.started" not in said
