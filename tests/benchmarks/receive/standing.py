"""What associations cost that stand idle, and what a large image costs in memory."""

from __future__ import annotations

import time

from load import Association, Sender
from peers import Peer
from phantoms import Image, UidSource
from processes import PeakMemory, cpu_seconds, memory

N_IDLE = 120
_SETTLE_SECONDS = 1.0


def idle(peer: Peer, image: Image, seconds: float) -> tuple[float, float]:
    """Return CPU in percent of a core and KiB per association with `N_IDLE` open associations.

    Each has sent one C-ECHO; the memory is the proportional set size of the peer's processes.
    """
    warm = Association(peer.target, image)
    warm.echo()
    warm.release()
    time.sleep(_SETTLE_SECONDS)
    before = memory(peer.pids())
    associations = [Association(peer.target, image) for _ in range(N_IDLE)]
    for association in associations:
        association.echo()
    time.sleep(_SETTLE_SECONDS)
    pids = peer.pids()
    used, began = cpu_seconds(pids), time.perf_counter()
    time.sleep(seconds)
    share = (cpu_seconds(pids) - used) / (time.perf_counter() - began) * 100
    grown = (memory(pids) - before) / N_IDLE / 1024
    for association in associations:
        association.release()
    return share, grown


def growth(peer: Peer, image: Image, uids: UidSource, n_at_once: int) -> float:
    """Return by how many MB each of `n_at_once` images in transit makes the peer grow."""
    sender = Sender(peer.target, image, uids)
    with PeakMemory(peer.pids) as sampled:
        peer.n_expected += sender.times(n_at_once, 1).n
    return sampled.growth / n_at_once / 1e6
