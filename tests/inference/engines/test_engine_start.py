"""What a worker pays for at its start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("inference.engines.choose", ("torch", "monai", "onnxruntime", "onnx")),
        ("inference.engines.ladder", ("torch", "monai", "onnxruntime", "onnx")),
        ("inference.engine_spec", ("torch", "monai")),
        ("inference.forward", ("torch", "monai", "onnxruntime", "onnx")),
        # Readers prepare their input with torch still.
        ("inference.readers", ("monai", "onnx")),
    ],
)
def test_a_module_does_not_import_what_takes_seconds(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(sorted(set({absent!r}) & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "[]"
