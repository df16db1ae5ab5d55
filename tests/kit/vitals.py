"""What a node takes from its machine: threads, file descriptors, memory."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from encoded import image
from node_process import Node, process_tree
from raw_pdus import Instance
from senders import Senders
from waiting import wait_for

N_WARM_UP = 16
# What may come for good reasons: threads that are started late, two connections to SQLite.
_MORE_THREADS, _MORE_DESCRIPTORS = 2, 10


@dataclass(frozen=True, slots=True)
class Vitals:
    """Of a process and all its descendants."""

    n_threads: int
    n_descriptors: int
    rss_bytes: int

    def __str__(self) -> str:
        mib = self.rss_bytes / 2**20
        return f"{self.n_threads} threads, {self.n_descriptors} descriptors, {mib:.1f} MiB"


def vitals(node: Node) -> Vitals:
    assert node.process is not None
    seen = [_of(pid) for pid in process_tree(node.process.pid)]
    return Vitals(
        sum(one.n_threads for one in seen),
        sum(one.n_descriptors for one in seen),
        sum(one.rss_bytes for one in seen),
    )


def warmed_up(node: Node) -> Vitals:
    """Vitals after `N_WARM_UP` images from as many senders at once: pools and caches are filled."""
    with Senders(node.port, N_WARM_UP, _small, per_sender=1) as senders:
        senders.join()
    time.sleep(0.5)  # associations end after the release was answered
    return vitals(node)


def _small(sender: int, number: int) -> Instance:
    return image("warm-up", sender, number)


def _of(pid: int) -> Vitals:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    names = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            names.append((task / "comm").read_text().strip())
    return Vitals(
        # A slow disk is synced by more threads, which stay.
        sum(1 for name in names if name != "sync"),
        sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        int(status["VmRSS"].split()[0]) * 1024,
    )


def assert_back_to(
    node: Node, before: Vitals, seconds: float = 60.0, *, megabytes: int = 16
) -> Vitals:
    """Wait until threads and descriptors are what they were, and memory nearly."""

    def is_back() -> bool:
        now = vitals(node)
        return (
            now.n_threads <= before.n_threads + _MORE_THREADS
            and now.n_descriptors <= before.n_descriptors + _MORE_DESCRIPTORS
            and now.rss_bytes <= before.rss_bytes + (megabytes << 20)
        )

    try:
        wait_for(is_back, seconds)
    except AssertionError:
        raise AssertionError(f"before: {before}; after {seconds:.0f} s: {vitals(node)}") from None
    return vitals(node)
