"""The benchmark of the node runs to its end, and tells what it found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent


def _run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *arguments, "--folder", str(folder)],
        capture_output=True,
        text=True,
        timeout=880,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_tells_what_it_takes_and_knows_its_parts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--only", "nothing", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 2
    assert "nothing is none of stages, urgent, workers, memory, flat" in " ".join(
        done.stderr.replace("│", " ").split()
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("stages", "X-ray to proved report beyond quiet and model time"),
        ("urgent", "STAT X-ray behind"),
        ("workers", "two workers over one (sqlite)"),
        ("memory", "after an X-ray and a head CT"),
        ("flat", "## 10 X-rays in a row"),
    ],
)
def test_each_part_in_its_smallest_form(tmp_path: Path, part: str, said: str) -> None:
    told = _run(tmp_path, "--quick", "--only", part)
    assert said in told
    assert "Errors" not in told
    assert not list(tmp_path.iterdir())
