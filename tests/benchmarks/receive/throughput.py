"""Images per second: peers stand side by side and are measured in turn, case by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median

import figures
from figures import Figures, Measure
from latency import echo, set_up
from load import Load, Sender
from peers import Field, Peer
from phantoms import Image, UidSource
from processes import cpu_seconds
from storescu import ASSOCIATIONS, FileSets

_N_WARM_UP = 5


class Throughput:
    """Measures all peers on one kind of image.

    Parameters
    ----------
    field : Field
        Starts the peers.
    files : FileSets
        For storescu.
    seconds : float
        Of one measurement by the load generator.
    """

    def __init__(
        self, field: Field, files: FileSets, uids: UidSource, figures_: Figures, seconds: float
    ) -> None:
        self._field = field
        self._files = files
        self._uids = uids
        self._figures = figures_
        self._seconds = seconds

    def run(self, image: Image, names: Sequence[str], round_number: int) -> None:
        """Start the peers, take every measure of each, count what they hold, and end them."""
        # Nobody is always measured after the same neighbour.
        turn = round_number % len(names)
        with ExitStack() as stack:
            started = {
                name: stack.enter_context(self._field.start(name))
                for name in [*names[turn:], *names[:turn]]
            }
            peers = {}
            for name, peer in started.items():
                with self._figures.guard(f"{name}, {image.kind}"):
                    peer.wait()
                    peer.n_expected += Sender(peer.target, image, self._uids).times(1, _N_WARM_UP).n
                    peers[name] = peer
            for n_associations in ASSOCIATIONS:
                self._each(peers, image, round_number, n_associations)
            for name, peer in peers.items():
                if image.kind == "small":
                    with self._figures.guard(f"{name}, {image.kind}"):
                        self._small_ones(name, peer, image, round_number)
                with self._figures.guard(f"{name}, {image.kind}"):
                    peer.check()

    def _each(
        self, peers: Mapping[str, Peer], image: Image, round_number: int, n_associations: int
    ) -> None:
        for name, peer in peers.items():
            with self._figures.guard(f"{name}, {image.kind}"):
                peer.settle()
                used = cpu_seconds(peer.pids())
                load = Sender(peer.target, image, self._uids).for_seconds(
                    n_associations, self._seconds
                )
                used = cpu_seconds(peer.pids()) - used
                peer.n_expected += load.n
                for measure, value in _of_load(image.kind, n_associations, load, used).items():
                    self._figures.add(measure, name, round_number, value)
        for name, peer in peers.items():
            with self._figures.guard(f"{name}, {image.kind}"):
                peer.settle()
                n, seconds = self._files.send(image, peer.target, n_associations)
                peer.n_expected += n
                measure = figures.throughput(image.kind, "storescu", n_associations)
                self._figures.add(measure, name, round_number, n / seconds)

    def _small_ones(self, name: str, peer: Peer, image: Image, round_number: int) -> None:
        seconds = self._seconds / 2
        values = {
            figures.ECHO: echo(peer.target, image, seconds),
            figures.SET_UP: set_up(peer.target, image, seconds),
        }
        peer.settle()
        load = Sender(peer.target, image, self._uids).one_each(self._seconds)
        peer.n_expected += load.n
        for measure, value in (values | {figures.ONE_EACH: load.per_second}).items():
            self._figures.add(measure, name, round_number, value)


def _of_load(kind: str, n_associations: int, load: Load, cpu: float) -> dict[Measure, float]:
    found = {
        figures.throughput(kind, "raw", n_associations): load.per_second,
        figures.cpu(kind, n_associations): cpu / load.n * 1e3,
    }
    if kind == "small" and n_associations == 1:
        found[figures.SMALL_STORE] = median(load.latencies) * 1e3
    return found
