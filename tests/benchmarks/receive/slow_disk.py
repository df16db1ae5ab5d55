"""A disk that takes longer to sync: a library preloaded into the programs that are measured."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCE = Path(__file__).with_name("slow_sync.c")


class SlowDiskError(Exception):
    """There is no compiler, or a program does not call what is slowed down."""


class SlowDisk:
    """Compiles the library; its `environment` slows a program down and counts its calls.

    Parameters
    ----------
    folder : Path
        Takes the library and the counter.
    milliseconds : float
        Added to each fsync and fdatasync; 0 only counts.
    name : str
        Of the counter: programs with the same one are counted together.
    """

    def __init__(self, folder: Path, milliseconds: float, name: str) -> None:
        self._library = folder / "slow_sync.so"
        self._counter = folder / f"{name}.count"
        self._microseconds = round(milliseconds * 1000)
        if not self._library.exists():
            compiler = shutil.which("gcc") or shutil.which("cc")
            if compiler is None:
                raise SlowDiskError("no C compiler here: gcc or cc is needed to slow fsync down")
            command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(self._library), str(_SOURCE)]
            subprocess.run(command, check=True)
        self._counter.write_bytes(bytes(8))
        self._counter.chmod(0o666)  # PostgreSQL runs as another user

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables for the program."""
        return {
            "LD_PRELOAD": str(self._library),
            "SLOW_SYNC_MICROSECONDS": str(self._microseconds),
            "SLOW_SYNC_COUNTER": str(self._counter),
        }

    @property
    def n_calls(self) -> int:
        """Calls of fsync and fdatasync so far."""
        return int.from_bytes(self._counter.read_bytes(), "little")
