"""What a worker pays for at its start."""

from __future__ import annotations

import os
import subprocess
import sys

_CODE = """
import sys
import inference.readers, inference.evaluation.images
print(sorted({"torch", "monai", "onnxruntime", "onnx"} & set(sys.modules)))
"""


def test_engines_and_readers_do_not_import_what_takes_seconds() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    ended = subprocess.run(
        [sys.executable, "-c", _CODE], capture_output=True, text=True, check=False, env=environment
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["[]"]
