"""How much memory the worker has and may have, so that it ends in order before it is killed.

Libraries that decode and compute keep what they have asked for once, and some leak. A process that
has grown past its mark ends between two analyses, and another one begins with little.
"""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

# What is left is for those who receive, the database and the page cache.
_SHARE = 0.6
# A mark so near to what the models take alone would be passed by any analysis.
_LEAST_ROOM = 1.2
_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
# Version 1 says "no limit" with the largest number of pages.
_NO_LIMIT = 1 << 60


class MemoryMark:
    """The resident memory above which a worker is to end.

    Parameters
    ----------
    n_bytes : int
        0 or less: none.
    """

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes

    def raised_for(self, at_start: int) -> bool:
        """Raise the mark if the models alone reach it; return whether that was necessary.

        Parameters
        ----------
        at_start : int
            Resident bytes before the first analysis.
        """
        least = int(at_start * _LEAST_ROOM)
        if self.n_bytes <= 0 or least <= self.n_bytes:
            return False
        self.n_bytes = least
        return True

    def passed(self) -> int | None:
        """Return the resident bytes if they are above the mark, once what is free is given back."""
        if self.n_bytes <= 0 or resident_bytes() <= self.n_bytes:
            return None
        _give_back()
        now = resident_bytes()
        return now if now > self.n_bytes else None


def mark_for(memory_mb: int, workers: int = 1) -> MemoryMark:
    """Return the mark of ``inference.memory_mb``; for 0 a share of what the process may use.

    Parameters
    ----------
    memory_mb : int
        0: the share.
    workers : int
        How many processes share what may be used.
    """
    share = int(allowed_bytes() * _SHARE / workers)
    return MemoryMark(memory_mb << 20 if memory_mb else share)


def resident_bytes(proc: Path = _PROC) -> int:
    """Return the memory of this process and its children that no file backs.

    What libraries and weights map from files counts for nothing: the kernel takes it back when it
    has to. Where the kernel does not tell it is 0.
    """
    own = os.getpid()
    children: list[str] = []
    for path in (proc / str(own) / "task").glob("*/children"):
        children += _text(path).split()
    return sum(_unbacked(proc / pid / "status") for pid in (str(own), *children))


def allowed_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return what this process may use: the least of its control groups and of the machine.

    0 if nothing is told.
    """
    limits = [_kilobytes(proc / "meminfo", "MemTotal")]
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += _limits(cgroups, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(cgroups / "memory", path, "memory.limit_in_bytes")
    return min((limit for limit in limits if 0 < limit < _NO_LIMIT), default=0)


def _limits(root: Path, path: str, name: str) -> list[int]:
    """Return the limits from a control group up: each holds for all below it."""
    group = root / path.strip("/")
    found = []
    # In a container the path is often that of the host, and its own group stands at the root.
    for place in {root, *(one for one in (group, *group.parents) if one.is_relative_to(root))}:
        text = _text(place / name).strip()
        if text.isdigit():
            found.append(int(text))
    return found


def _unbacked(status: Path) -> int:
    return _kilobytes(status, "RssAnon") + _kilobytes(status, "RssShmem")


def _kilobytes(path: Path, name: str) -> int:
    """Return in bytes what a line such as ``RssAnon:  1024 kB`` says; 0 without one."""
    for line in _text(path).splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # a child that has ended, another kernel
        return ""


def _give_back() -> None:
    """Give freed memory back to the kernel, as far as the C library can."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return
