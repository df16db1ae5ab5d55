"""A node whose parts are processes that are started one by one, and the PACS beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from node_process import Node, free_port, process_tree
from raw_pdus import Instance
from raw_scu import RawAssociation
from waiting import wait_for

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Field:
    """The parts of one node; leaving the ``with`` block ends them.

    Parameters
    ----------
    folder : Path
        Of its own; takes configuration, log and data.
    database_url : str or None
        A PostgreSQL database; without one SQLite.
    extra, scp : str
        Lines of the configuration.
    """

    folder: Path
    database_url: str | None = None
    extra: str = ""
    scp: str = ""
    port: int | None = None
    parts: dict[str, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.node = Node(self.folder, self.port or free_port(), database_url=self.database_url)
        self.node.configure(self.extra, self.scp)

    def __enter__(self) -> Field:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.parts):
            self.stop(name)

    def start(self, part: str, name: str = "") -> None:
        """Start a part, ``up`` for the whole node; several workers have names of their own."""
        # Same folder, configuration and log; a process of its own.
        process = replace(self.node, process=None)
        process.launch(part)
        self.parts[name or part] = process
        if part in ("up", "scp"):
            wait_for(process._is_up, 120, "the node's port", every=0.02)

    def stop(self, name: str) -> None:
        """End a part politely, then not."""
        process = self.parts.pop(name)
        if process.process is not None and process.process.poll() is None:
            process.stop()

    def pid(self, name: str) -> int:
        process = self.parts[name].process
        assert process is not None
        return process.pid

    def pid_of_part(self, part: str) -> int:
        """The process of a part of ``up``."""
        return self.node.part_pids()[part]

    def wait_for_workers(self, n: int = 1, seconds: float = 180) -> None:
        """Wait until so many workers have said that they take jobs."""
        wait_for(lambda: self.count("worker.started") >= n, seconds, f"{n} workers", every=0.05)

    def count(self, event: str) -> int:
        return sum(1 for one in self.node.events() if one["event"] == event)

    def send(self, instances: Sequence[Instance], calling: str = "MODALITY") -> None:
        """Store images over one association."""
        contexts = sorted({one.context for one in instances})
        with RawAssociation(self.node.port, contexts, calling=calling) as opened:
            for one in instances:
                status = opened.store(one, size=1 << 17)
                assert status == 0, f"C-STORE answered with 0x{status:04X}"

    def scalar(self, sql: str, *parameters: object) -> Any:
        return self.node.query(sql, *parameters)[0][0]

    def n_in(self, *states: str) -> int:
        """How many analyses are in one of these states."""
        marks = ", ".join("?" * len(states))
        sql = f"SELECT COUNT(*) FROM analysis WHERE state IN ({marks})"
        return int(self.scalar(sql, *states))


@contextmanager
def database(kind: str) -> Iterator[str | None]:
    """The URL of a new database; None stands for SQLite."""
    with ExitStack() as stack:
        if kind == "sqlite":
            yield None
            return
        from own_postgresql import OwnPostgresql

        server = OwnPostgresql()
        stack.callback(server.close)
        yield server.database()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, its descendants and those that have ended."""
    ticks = 0
    for one in process_tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        ticks += sum(int(value) for value in fields[11:15])
    return ticks / _TICKS_PER_SECOND


@contextmanager
def confined(cores: Collection[int]) -> Iterator[None]:
    """Start processes within the block that keep to some cores, as ``inference.workers`` has it.

    From their start on: libraries make as many threads as there are cores.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """Memory of one process in MB, by its name in /proc/PID/status."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{what}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


__all__ = ["Field", "confined", "cpu_seconds", "database", "free_port", "memory_mb", "wait_for"]
