"""Bells between the processes of a node on one host: whoever made work for another part rings.

Every part looks for its work every fraction of a second; that stays, and it is enough: a ring that
is lost, from another host or because a pipe cannot be made, costs that fraction and nothing else.
A ring carries nothing. Each listener has a named pipe of its own in ``bells/`` of the data
directory, so that containers that share the directory hear each other, and nobody else may ring.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path

import structlog

_log = structlog.get_logger()
_FOLDER = "bells"
# A pipe that nobody reads here may be read on another host; after so long without a word it is not.
_LEFT_OVER_SECONDS = 86400.0
_STILL_HERE_SECONDS = 3600.0
# Two looks for work are at least so far apart: of a hundred series that are complete at the same
# moment the listener hears a few times. The job engine counts what it has begun a moment later: two
# looks at once would begin more than it may.
_BETWEEN_SECONDS = 0.1
_READ_BYTES = 4096


class Bell(StrEnum):
    """What there is to do."""

    JOBS = "jobs"
    OUTBOX = "outbox"


def bell(data_dir: Path, which: Bell) -> Callable[[], None]:
    """Return what rings a bell; it never fails and takes some 20 microseconds for each listener."""
    folder = data_dir.absolute() / _FOLDER

    def ring() -> None:
        with suppress(OSError):
            for name in os.listdir(folder):  # noqa: PTH208 - no Path for each of them
                if name.startswith(which):
                    # What is wrong with one pipe is no matter of those behind it.
                    with suppress(OSError):
                        _ring(f"{folder}/{name}")

    return ring


def is_heard(data_dir: Path, which: Bell) -> bool:
    """Tell whether a process of this host listens for a bell; it is not rung."""
    for path in (data_dir.absolute() / _FOLDER).glob(f"{which}-*"):
        with suppress(OSError):  # nobody reads it
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            return True
    return False


def _ring(path: str) -> bool:
    """Tell whether somebody on this host reads the pipe."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return error.errno not in (errno.ENXIO, errno.ENOENT)
    try:
        os.write(descriptor, b"\0")
    except BlockingIOError:
        pass  # full of rings that were not heard yet
    finally:
        os.close(descriptor)
    return True


@contextmanager
def hearing(data_dir: Path, which: Bell, heard: Callable[[], None]) -> Iterator[None]:
    """Call `heard`, in a thread of its own, whenever the bell is rung inside the block."""
    try:
        path, descriptor = _pipe(data_dir.absolute() / _FOLDER, which)
    except OSError as error:
        _log.warning("bell.missing", bell=which.value, reason=error.strerror)
        yield
        return
    stop_read, stop_write = os.pipe()
    thread = threading.Thread(
        target=_listen, args=(path, descriptor, stop_read, heard), name="bell", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.write(stop_write, b"\0")
        thread.join(5)
        for one in (descriptor, stop_read, stop_write):
            os.close(one)


def _pipe(folder: Path, which: Bell) -> tuple[Path, int]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _tidy(folder)
    name = f"{which}-{secrets.token_hex(6)}"
    made = folder / f".{name}"
    os.mkfifo(made, 0o600)
    # For writing too: so it never ends when the last of those who ring has closed it.
    descriptor = os.open(made, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    # Under its name only once it is read: what bears such a name and is not read is left over.
    return made.rename(folder / name), descriptor


def _listen(path: Path, descriptor: int, stop: int, heard: Callable[[], None]) -> None:
    while True:
        ready, _, _ = select.select([descriptor, stop], [], [], _STILL_HERE_SECONDS)
        if stop in ready:
            return
        if not ready:
            with suppress(OSError):
                os.utime(path)
            continue
        with suppress(BlockingIOError):
            os.read(descriptor, _READ_BYTES)
        heard()
        if select.select([stop], [], [], _BETWEEN_SECONDS)[0]:
            return


def _tidy(folder: Path) -> None:
    """Take away the pipes of processes that were killed."""
    latest = time.time() - _LEFT_OVER_SECONDS
    for path in folder.iterdir():
        with suppress(OSError):
            if path.stat().st_mtime < latest and not _ring(str(path)):
                path.unlink()
