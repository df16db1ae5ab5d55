"""A worker that is told to stop before it is ready: the first start exports networks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from waiting import wait_for

_ROOT = Path(__file__).parents[2]
# The worker itself, which exports a network again and again.
_WORKER = """
from inference.engines.onnx_cache import OnnxCache
keep = OnnxCache.keep
def for_ever(cache, bundle, write):
    def again_and_again(path):
        while True:
            write(path)
    return keep(cache, bundle, again_and_again)
OnnxCache.keep = for_ever
from deploy.cli import main
main()
"""


def test_a_worker_that_exports_stops_at_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PREREAD_INFERENCE__DEVICE": "cpu"}
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, "worker", "--data-dir", str(data)],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(
            lambda: list(data.glob("engines/.new-*")) or process.poll() is not None, 120, "export"
        )
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert "worker.stopped" in said
    assert "worker.started" not in said
