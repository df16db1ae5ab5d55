"""The benchmark of objects runs to its end, and its objects are whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_quick_run_tells_all_kinds_of_objects_and_a_verdict(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent), "--quick", "--only", "film-1024,ct-28"]
    said = subprocess.run(
        [*command, "--folder", str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    assert "chest radiograph, 1024 x 1024: 1 SC, 1 SR" in said
    assert "head CT, 8 slices: 6 SC, 1 SR, 1 KO" in said
    assert said.count("at most ") == 2
    assert not list(tmp_path.iterdir())
