"""What work takes of memory at its highest."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path


def peak(work: Callable[[], object]) -> float:
    """Return by how many MB `work` makes a process grow that has all modules loaded.

    It runs in a fork, which first gives back what earlier work left free (Linux, glibc).
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_measure, args=(work, sender))
    process.start()
    sender.close()
    grown: float = receiver.recv()
    process.join()
    return grown


def _measure(work: Callable[[], object], sender: Connection) -> None:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _kilobytes("VmRSS")
    work()
    sender.send((_kilobytes("VmHWM") - before) / 1024)


def _kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, f"/proc/self/status has no {name}"
    return int(found[1])
