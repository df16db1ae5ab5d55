"""Processes that the benchmark starts, and what they use of the machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class PeerError(Exception):
    """A peer did not start, or holds another number of files than it acknowledged."""


class Process:
    """A program in a process group of its own, with its output in a file.

    Parameters
    ----------
    command : sequence of str
    log : Path
        Takes its output.
    environment : mapping
        Added to this process's.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                cwd=log.parent,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def pids(self) -> list[int]:
        """Return the process and all its descendants."""
        return tree(self._process.pid)

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until `condition` holds; raise PeerError, with the log's end, if it never does."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self._process.poll() is not None:
                end = self.log.read_text(errors="replace")[-500:]
                raise PeerError(f"{what} did not come about within {seconds:.0f} s\n{end}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End the group: politely, then not."""
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(90)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def tree(pid: int) -> list[int]:
    """Return a process and its descendants, from /proc."""
    pids = [pid]
    for one in pids:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                pids += [int(child) for child in children.read_text().split()]
            except OSError:  # it has ended
                continue
    return pids


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return user and system time that the processes, and children they waited for, have used."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS_PER_SECOND


def memory(pids: Sequence[int]) -> int:
    """Return the proportional set size of the processes, in bytes."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        total += int(found[1]) << 10 if found else 0
    return total


class PeakMemory:
    """Samples the memory of processes in a thread while a ``with`` block runs."""

    def __init__(self, pids: Callable[[], Sequence[int]], interval: float = 0.02) -> None:
        self._pids = pids
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.before = 0
        self.peak = 0

    @property
    def growth(self) -> int:
        """Bytes between the start and the peak."""
        return self.peak - self.before

    def __enter__(self) -> PeakMemory:
        self.before = self.peak = memory(self._pids())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(self._interval):
            self.peak = max(self.peak, memory(self._pids()))


def program(name: str) -> str:
    """Return the path of a system program; those that pip installs under such names are others."""
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/usr/sbin:/opt/dcmtk/bin")
    if found is None:
        raise PeerError(f"{name} is not installed")
    return found


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Return whether a connection to the port is accepted."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
