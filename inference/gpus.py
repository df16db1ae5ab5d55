"""Which GPUs and which sockets a machine has, from what the kernel says. Light: no torch.

Whoever starts workers needs it before there is one, and importing torch only to count takes
seconds and a context on each GPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# What the driver of NVIDIA says of each GPU, under its place on the bus.
_NVIDIA = "proc/driver/nvidia/gpus"
_NODES = "sys/devices/system/node"
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpu_count(root: Path = Path("/"), environment: Mapping[str, str] | None = None) -> int:
    """Return how many NVIDIA GPUs a process that is started now would see.

    ``CUDA_VISIBLE_DEVICES`` is taken as CUDA takes it: what comes after an entry that names no GPU
    is not seen. Entries that are identifiers, of GPUs or of parts of them, are believed.

    Parameters
    ----------
    root : Path
        Where ``/proc`` lies.
    environment : mapping, optional
        Without it, that of this process.
    """
    try:
        there = sum(1 for one in (root / _NVIDIA).iterdir() if one.is_dir())
    except OSError:
        return 0
    known = os.environ if environment is None else environment
    if _VISIBLE not in known:
        return there
    seen: set[str] = set()
    for entry in known[_VISIBLE].split(","):
        name = entry.strip()
        is_number = name.isascii() and name.isdigit()
        if is_number and int(name) >= there:
            break
        # One that stands there twice makes CUDA see none at all.
        if name in seen:
            return 0
        if not is_number and not name.startswith(("GPU-", "MIG-")):
            break
        seen.add(name)
    return len(seen) if there else 0


def sockets(
    root: Path = Path("/"), allowed: frozenset[int] | None = None
) -> tuple[frozenset[int], ...]:
    """Return the cores of each memory node (NUMA) that this process may use.

    Parameters
    ----------
    root : Path
        Where ``/sys`` lies.
    allowed : frozenset of int, optional
        Without it, the cores that this process may use.

    Returns
    -------
    tuple of frozenset of int
        By node, those without a core left out; one with all cores where the kernel says nothing.
    """
    may = frozenset(os.sched_getaffinity(0)) if allowed is None else allowed
    found = []
    for path in sorted((root / _NODES).glob("node[0-9]*/cpulist"), key=_number):
        try:
            cores = may & _cores(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if cores:
            found.append(cores)
    # A core that no node names would stand idle.
    return tuple(found) if found and frozenset().union(*found) == may else (may,)


def _number(path: Path) -> int:
    return int(path.parent.name.removeprefix("node"))


def _cores(text: str) -> frozenset[int]:
    """Return the cores of a list such as ``0-3,8,10-11``."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)
