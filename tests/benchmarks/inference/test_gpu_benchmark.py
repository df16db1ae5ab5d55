"""The benchmark for GPUs runs to its end, on the CPU here, and says when there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    not (HERE / "pictures.py").exists(), reason="the pictures of the benchmark are not here yet"
)


def said(*arguments: str) -> str:
    command = [sys.executable, str(HERE / "gpu.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_a_gpu_it_says_so() -> None:
    assert said() == "no GPU: torch sees none; nothing is measured\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs_on_a_cpu_to_its_end() -> None:
    lines = said("--device", "cpu", "--quick", "--batch", "2", "--decoders", "1").splitlines()
    assert lines[0].startswith("cpu, no figures, torch")
    assert "1 decode processes on" in lines[0]
    rows = [line for line in lines if line.startswith(("| CT", "| X-ray"))]
    assert [row.count("unknown") for row in rows] == [1] * 4  # how idle a GPU is that is not there
    assert ["stored 8" in row for row in rows] == [True, True, False, False]
    assert ["stored 4" in row for row in rows] == [False, False, True, True]
