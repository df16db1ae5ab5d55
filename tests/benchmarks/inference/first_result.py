"""From the start of a process to its first probabilities, with the network in the cache.

Without database and job queue: what the network and the input alone take. `start` measures a worker
as it is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

_PROGRAM = """
import sys
from pathlib import Path
from inference.bundle import open_bundle
from inference.engines.choose import EngineSettings
from inference.model import load_reader
from inference.reading import SourceImage
bundle, cache, path = map(Path, sys.argv[1:4])
reader = load_reader(open_bundle(bundle), "cpu", 8, EngineSettings(cache=cache, threads=1))
decoded = reader.decode([SourceImage(1, "1", "", "", path)])
print(*[reader.scores(batch) for batch in decoded.batches])
"""


def measure(bundle: Path, cache: Path, path: Path, root: Path) -> float:
    """Return the seconds of one start."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(bundle), str(cache), str(path)],
        cwd=root, capture_output=True, check=True,
    )  # fmt: skip
    return time.perf_counter() - began
