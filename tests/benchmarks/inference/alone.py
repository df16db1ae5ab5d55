"""What one way takes of memory, in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def peak(party: str, case: str, folder: Path, device: str, cores: int) -> float | None:
    """Return by how many MB a party makes a process grow that has loaded its network.

    None where it cannot read the files.
    """
    command = [sys.executable, str(HERE), "alone", party, case, str(folder)]
    asked = [*command, "--device", device, "--cores", str(cores)]
    done = subprocess.run(asked, capture_output=True, text=True)
    if done.returncode == 0:
        return float(done.stdout)
    print(done.stderr[-2000:], file=sys.stderr)
    return None


def kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, f"/proc/self/status has no {name}"
    return int(found[1])


def start_counting() -> int:
    """Give back what is free, and forget the highest so far; return what is in use (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return kilobytes("VmRSS")
