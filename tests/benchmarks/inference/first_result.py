"""From the start of a worker's process to its first probabilities, with the network in the cache.

Run by `measure` as a program: it prints the seconds since it was started, and what took them.
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
print("torch" in sys.modules)
"""


def measure(bundle: Path, cache: Path, path: Path, root: Path) -> tuple[float, bool]:
    """Return the seconds of one start, and whether torch was loaded for it."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(bundle), str(cache), str(path)],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return time.perf_counter() - began, done.stdout.split()[-1] == "True"
