"""The benchmark of inference runs to its end, and tells a verdict on every goal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_quick_run_measures_all_parties_and_tells_every_goal(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    command = [sys.executable, str(Path(__file__).parent), "--quick", "--folder", str(data)]
    said = subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, check=True
    ).stdout
    for party in ("Preread", "bare network", "MONAI dictionaries", "tutorial"):
        assert party in said
    for case in ("CT, uncompressed", "X-ray, JPEG"):
        assert said.count(f"{case}: to ") == 3
    assert "EfficientNet-B0 at 256, onnxruntime" in said
    assert "drift of a probability" in said
    assert "start of a worker to the first result" in said
    assert (out / "inference_benchmark.md").read_text() == said
    assert not list(data.iterdir())
