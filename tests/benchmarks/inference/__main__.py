"""The benchmark of inference, from files to probabilities; ``--help`` tells what it takes."""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a folder, only that folder is on the path: the rooms of this very tree, and what tests
# share, go second.
_ROOT = Path(__file__).parents[3]
sys.path[1:1] = [str(_ROOT), str(_ROOT / "tests" / "kit")]

from command import app  # noqa: E402 - found on the path just set

if __name__ == "__main__":
    app()
