"""Names of workers: stable, and never two live processes of one host under the same."""

from __future__ import annotations

import fcntl
import os
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
        # Not emptied before it is ours: it says who has it.
        with (folder / f"{name}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError as error:
                raise InferenceError(
                    f"{file.name} cannot be locked ({error.strerror}): workers need a file system "
                    "with locks below data_dir; mount it with them, or use another data_dir"
                ) from error
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield name
            return
    raise InferenceError(f"256 workers run on this host already (locks in {folder})")


def is_gone(folder: Path, worker_id: str, pid: int) -> bool:
    """Tell whether a process of this host that had a name has ended, for certain.

    Of one whose names lie in another folder nothing is known, though a name of this one may be the
    same: who had a name last, and is free of it, is gone; others are if no process has their id.

    Parameters
    ----------
    folder : Path
        Of the names.
    worker_id : str
    pid : int
        Of the process.
    """
    try:
        # Only where there is such a file: the worker may have another data directory.
        with (folder / f"{worker_id}.lock").open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                # Its successor, which still loads models, has the name already.
                holder = file.read().strip()
                return holder.isdecimal() and int(holder) != pid and not _is_there(pid)
            return file.read().strip() == str(pid)
    except (OSError, ValueError):  # no such file, or not what a worker writes
        return False


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user
        return True
    return True


def name_of(folder: Path, pid: int) -> str | None:
    """Return the name that a process of this host has, or had until a successor took it."""
    for path in sorted(folder.glob("*.lock")):
        try:
            if path.read_text() == f"{pid}\n":
                return path.stem
        except (OSError, ValueError):  # gone meanwhile, or not what a worker writes
            continue
    return None
