"""A way of computing in a process of its own: with the memory and the threads that it would have.

The node's worker keeps the memory that pictures leave behind, and has it in large pages. Both are
settings of a whole process, and make torch faster, too; what people run has neither.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clock import Spent, spend
from options import WORKERS

from deploy.huge_pages import for_huge_pages

HERE = Path(__file__).parent
Run = Callable[[int], Any]


class RefusedError(Exception):
    """It cannot read the files."""


class Spawned:
    """The parent's end; several are made at once and then waited for.

    Attributes
    ----------
    told : list
        What it gave the first time: rows of probabilities.
    grown_mb : float
        What it took of memory then, beyond what it had with its network loaded.
    about : str
        What it says it is.
    """

    told: list[list[float]]
    grown_mb: float
    about: str

    def __init__(self, kind: str, party: str, what: str, folder: Path, options: list[str]) -> None:
        command = [sys.executable, str(HERE), kind, party, what, str(folder), *options]
        huge = for_huge_pages(os.environ) if party in WORKERS else {}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **huge},
        )

    def wait(self) -> None:
        """Wait until it did everything once.

        Raises
        ------
        RefusedError
            If it cannot do it.
        """
        first = self._answer()
        if "refused" in first:
            self.close()
            raise RefusedError(first["refused"])
        self.told, self.grown_mb = first["told"], first["grown_mb"]
        self.about = first["about"]

    def spend(self, batch: int = 0) -> Spent:
        """Carry it out once more; return seconds for a row."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{batch}\n")
        self._process.stdin.flush()
        return Spent(**self._answer())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process ended with status {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def answering() -> Iterator[Callable[[object], None]]:
    """Give a way to answer the parent; what libraries print goes to the standard error."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)

        def answer(what: object) -> None:
            answers.write(json.dumps(what) + "\n")
            answers.flush()

        yield answer


def serve(answer: Callable[[object], None], run: Run, rows: int, about: str) -> None:
    """Be the other end: run once, then as often as a line comes."""
    before = _start_counting()
    told = run(0)
    grown = (_kilobytes("VmHWM") - before) / 1024
    answer({"told": told.tolist(), "grown_mb": grown, "about": about})
    for line in sys.stdin:
        batch = int(line)
        spent = spend(lambda batch=batch: run(batch), rows)
        answer({"wall": spent.wall, "cpu": spent.cpu})


def _kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, f"/proc/self/status has no {name}"
    return int(found[1])


def _start_counting() -> int:
    """Give back what is free, and forget the highest so far; return what is in use (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _kilobytes("VmRSS")
