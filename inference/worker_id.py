"""Names of workers: stable, and never two live processes of one host under the same."""

from __future__ import annotations

import fcntl
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InferenceError


@contextmanager
def claim_worker_id(folder: Path, device: str) -> Iterator[str]:
    """Hold a stable name such as ``host-cpu0`` that no other live process on this host has.

    The lock is the kernel's: a killed worker frees its name, and its successor takes up the jobs
    that were left under it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{socket.gethostname()}-{device.replace(':', '')}"
    for number in range(256):
        name = stem if device.startswith("cuda:") and number == 0 else f"{stem}-{number}"
        with (folder / f"{name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield name
            return
    raise InferenceError(f"256 workers run on this host already (locks in {folder})")
