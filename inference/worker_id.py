"""Names of workers: stable, and never two live processes under the same.

A name is made of the host, a tag of the data directory, the device and a number. Containers and
machines may have the same host name and one database; their data directories differ, and so do
their tags. Within one data directory it is the kernel's locks that tell names apart.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import InferenceError

_TAG = "tag"
# 30 bits: of a hundred data directories of hosts of one name two have the same with a probability
# of 5 in a million.
_TAG_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_TAG_LENGTH = 6


@contextmanager
def claim_worker_id(folder: Path, device: str) -> Iterator[str]:
    """Hold a stable name such as ``host-k3f2ab-cpu-0`` that no other live process has.

    The lock is the kernel's: a killed worker frees its name, and its successor takes up the jobs
    that were left under it.

    Parameters
    ----------
    folder : Path
        Of the names, in the data directory; made if need be.
    device : str
        ``cpu`` or ``cuda:N``.

    Raises
    ------
    InferenceError
        If the file system has no locks, or there are too many workers.
    """
    stem = f"{name_stem(folder)}-{device.replace(':', '')}"
    for number in range(256):
        name = stem if device.startswith("cuda:") and number == 0 else f"{stem}-{number}"
        # Not emptied before it is ours: it says who has it.
        with (folder / f"{name}.lock").open("a") as file:
            if not _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                continue
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield name
            return
    raise InferenceError(f"256 workers run on this host already (locks in {folder})")


def name_stem(folder: Path) -> str:
    """Return how all names in a folder begin: with the host, and the tag of the data directory.

    Raises
    ------
    InferenceError
        If the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return f"{socket.gethostname()}-{_tag(folder / _TAG)}"


def _tag(path: Path) -> str:
    """Return the tag of a data directory; one that is missing or damaged is made anew.

    That only gives the next worker another name: one that runs keeps its own, and what was left
    under an old name is taken over as any other worker's.
    """
    with path.open("a+b") as file:
        # Several workers start at once, and agree.
        _lock(file, fcntl.LOCK_EX)
        file.seek(0)
        found = file.read(_TAG_LENGTH + 2).decode("ascii", "replace")
        if re.fullmatch(f"[{_TAG_LETTERS}]{{{_TAG_LENGTH}}}\n", found):
            return found.rstrip()
        tag = "".join(secrets.choice(_TAG_LETTERS) for _ in range(_TAG_LENGTH))
        file.truncate(0)
        file.write(f"{tag}\n".encode())
        file.flush()
        os.fsync(file.fileno())
        return tag


def _lock(file: IO[str] | IO[bytes], how: int) -> bool:
    """Lock a file; False if somebody else has it and `how` does not wait for that."""
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InferenceError(
            f"{file.name} cannot be locked ({error.strerror}): workers need a file system "
            "with locks below data_dir; mount it with them, or use another data_dir"
        ) from error
    return True


def is_gone(folder: Path, worker_id: str, pid: int) -> bool:
    """Tell whether a process of this host that had a name has ended, for certain.

    Who had a name last, and is free of it, is gone; others are if no process has their id. Of one
    whose names lie in another folder nothing is known: there is no such file here. Names of older
    versions, without a tag, may be in both folders; so who had it is asked for too.

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


def held_names(folder: Path) -> frozenset[str]:
    """Return the names that processes have now, also those that still load their models."""
    held = set()
    for path in folder.glob("*-*.lock"):  # facts.lock is no name
        with suppress(OSError, InferenceError), path.open("rb") as file:
            if not _lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB):
                held.add(path.stem)
    return frozenset(held)


def name_of(folder: Path, pid: int) -> str | None:
    """Return the name that a process of this host has, or had until a successor took it."""
    for path in sorted(folder.glob("*.lock")):
        try:
            if path.read_text() == f"{pid}\n":
                return path.stem
        except (OSError, ValueError):  # gone meanwhile, or not what a worker writes
            continue
    return None
