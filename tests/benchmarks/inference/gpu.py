"""Files to probabilities on a GPU: ``python tests/benchmarks/inference/gpu.py [--quick]``.

Without a GPU it says so and ends; ``--device cpu`` runs the same code on the CPU, where its figures
mean nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a file, only its folder is on the path: the rooms of this very tree, and what tests share,
# go second.
_ROOT = Path(__file__).parents[3]
sys.path[1:1] = [str(_ROOT), str(_ROOT / "tests" / "kit")]

from gpu_run import main  # noqa: E402 - found on the path just set

if __name__ == "__main__":
    sys.exit(main())
