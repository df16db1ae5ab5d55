"""Which processes analyse: one for each GPU, or for each socket of a machine without one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from inference.gpus import gpu_count, sockets

from .settings import Settings


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """Where one worker process runs.

    Attributes
    ----------
    number : int
        Which of the workers it is.
    device : str
        As of ``inference.device``; ``auto`` where nothing was found out.
    cores : frozenset of int or None
        It keeps to these; None for all.
    """

    number: int
    device: str
    cores: frozenset[int] | None = None

    @property
    def name(self) -> str:
        """Of the process: ``worker``, ``worker-1``, ..."""
        return worker_name(self.number)

    def settle(self) -> None:
        """Keep this process to its cores; before anything makes threads."""
        if self.cores is not None:
            os.sched_setaffinity(0, self.cores)


def worker_name(number: int) -> str:
    """Return the name of a process that analyses."""
    return "worker" if number == 0 else f"worker-{number}"


def worker_places(
    settings: Settings, root: Path = Path("/"), environment: Mapping[str, str] | None = None
) -> tuple[WorkerPlace, ...]:
    """Return the workers of a node.

    ``inference.workers`` says how many. 0: one for each GPU that is seen, if ``inference.device``
    is ``auto``; one for the GPU that it names; else one for each socket. Several on CPUs share the
    cores out, and each keeps to its own: threads of two networks on one core only wait for each
    other.

    Parameters
    ----------
    settings : Settings
    root : Path
        Where ``/proc`` and ``/sys`` lie.
    environment : mapping, optional
        Of the workers; without it, that of this process.
    """
    wanted, asked = settings.inference.device, settings.inference.workers
    # Without a build of torch for GPUs they are no use, and `auto` means the CPU.
    gpus = gpu_count(root, environment) if wanted == "auto" and not torch_is_for_cpus() else 0
    if gpus:
        return tuple(WorkerPlace(n, f"cuda:{n % gpus}") for n in range(asked or gpus))
    if wanted.startswith("cuda"):
        return tuple(WorkerPlace(n, wanted) for n in range(asked or 1))
    places = sockets(root)
    count = asked or len(places)
    if count == 1:
        return (WorkerPlace(0, wanted),)
    return tuple(
        WorkerPlace(number, wanted, _share(places[number % len(places)], number // len(places), n))
        for number in range(count)
        for n in [len(range(number % len(places), count, len(places)))]
    )


def _share(cores: frozenset[int], number: int, count: int) -> frozenset[int] | None:
    """Return the cores of one of several workers of a socket; None if there are too few."""
    if count > len(cores):
        return None
    ordered = sorted(cores)
    return frozenset(ordered[len(cores) * number // count : len(cores) * (number + 1) // count])


def torch_is_for_cpus() -> bool:
    """Tell whether the installed torch knows no GPU, by the name of its build; without import."""
    try:
        return re.search(r"\+cpu\b", version("torch")) is not None
    except PackageNotFoundError:
        return True
