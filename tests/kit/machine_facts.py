"""The machine on which a benchmark runs."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path
from statistics import median


def hardware(folder: Path) -> list[tuple[str, str]]:
    """Return names and values of what any figure depends on; `folder` is on the disk used."""
    return [
        ("processor", f"{os.cpu_count()} cores, {_processor()}"),
        ("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"),
        ("kernel", platform.release()),
        ("file system", _file_system(folder)),
        ("sync of 4 KiB appended", f"{sync_milliseconds(folder):.2f} ms"),
        ("Python", platform.python_version()),
    ]


def sync_milliseconds(folder: Path) -> float:
    """Return the median time of an fdatasync after 4 KiB were appended to a file."""
    path, times = folder / "sync-probe", []
    with path.open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    path.unlink()
    return median(times) * 1e3


def busy_share(seconds: float) -> float:
    """Return how much of all cores is in use, in percent, while the benchmark does nothing."""
    idle, total = _ticks()
    time.sleep(seconds)
    idle_later, total_later = _ticks()
    return 100 * (1 - (idle_later - idle) / (total_later - total))


def _ticks() -> tuple[int, int]:
    first = Path("/proc/stat").read_text().partition("\n")[0]
    ticks = [int(field) for field in first.split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def _processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _file_system(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(at, kind) for at, kind in mounts if folder.resolve().is_relative_to(at)]
    return max(holding, key=lambda mount: len(mount[0]))[1]
