"""A worker that is asked to stop while it loads its models: a real process and a real signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_layouts import chest_reader
from waiting import wait_for

# An export that has written half of its file, and takes ten minutes more.
_CODE = """
import time
from inference.engines import choose
def exported(bundle, cache):
    def write(path):
        path.write_bytes(b"half")
        time.sleep(600)
    return cache.keep(bundle, write)
choose._exported = exported
from deploy.cli import main
main()
"""


def configured(folder: Path) -> tuple[Path, Path]:
    chest_reader(folder / "chest")
    config, data = folder / "preread.toml", folder / "data"
    config.write_text(
        f'data_dir = "{data}"\n[inference]\nshipped = false\ndevice = "cpu"\nthreads = 1\n'
        f'[[model]]\nname = "chest"\npath = "{folder / "chest"}"\n'
    )
    return config, data


def half_written(data: Path) -> list[Path]:
    return list((data / "engines").glob(".new-*/network.onnx"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_does_not_wait_for_an_export(tmp_path: Path, number: signal.Signals) -> None:
    config, data = configured(tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    with subprocess.Popen(
        [sys.executable, "-c", _CODE, "worker", "--config", str(config)],
        stderr=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        try:
            wait_for(
                lambda: half_written(data) or process.poll() is not None, 120, "export", every=0.02
            )
            assert process.poll() is None, process.stderr and process.stderr.read()
            process.send_signal(number)
            # Under a second on an idle machine.
            assert process.wait(120) == 0
        finally:
            process.kill()
    assert list((data / "engines").iterdir()) == []
