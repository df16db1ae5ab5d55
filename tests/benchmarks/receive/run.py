"""The whole benchmark, in rounds; what is compared is measured side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import figures
import mixed
import standing
from figures import Figures
from load import Sender
from peers import Field
from phantoms import Image, UidSource, build
from postgres import PostgresServer
from slow_disk import SlowDisk
from storescu import FileSets
from throughput import Throughput

KINDS = ("CT", "DX", "small")
PARTS = (*KINDS, "idle", "growth", "slow", "mixed")
_SLOW_MILLISECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, how often and for how long (seconds)."""

    parts: tuple[str, ...]
    peers: tuple[str, ...]
    rounds: int
    seconds: float
    file_share: float
    idle_seconds: float
    mixed_seconds: float
    n_large_at_once: int


class Run:
    """One run of the benchmark.

    Parameters
    ----------
    folder : Path
        Empty; takes all data, which should be on the disk to be measured.
    """

    def __init__(self, options: Options, folder: Path) -> None:
        self.figures = Figures()
        self._options = options
        self._folder = folder
        self._uids = UidSource()
        self._files = FileSets(folder / "files", self._uids, options.file_share)

    def measure(self) -> None:
        """Take all figures; errors are among them."""
        options = self._options
        with ExitStack() as stack:
            server = None
            if "preread-pg" in options.peers:
                server = PostgresServer(self._folder)
                stack.callback(server.stop)
            field = Field(self._folder, server)
            for number in range(options.rounds):
                self._round(field, number)
        for number in range(min(options.rounds, 3)):
            if "mixed" in options.parts:
                self._mixed(number)

    def _round(self, field: Field, number: int) -> None:
        options = self._options
        parts = [part for part in options.parts if part in KINDS]
        throughput = Throughput(field, self._files, self._uids, self.figures, options.seconds)
        for kind in parts:
            self._say(f"round {number + 1} of {options.rounds}: {kind}")
            throughput.run(build(kind), options.peers, number)
        if "slow" in options.parts:
            self._say(f"round {number + 1} of {options.rounds}: slow disk")
            for kind in ("CT", "small"):
                self._slow(field, build(kind), number)
        if "idle" in options.parts and number < 2:
            self._idle(field, number)
        if "growth" in options.parts and number < 2:
            self._growth(field, number)

    def _slow(self, field: Field, image: Image, number: int) -> None:
        """Count the syncs of one and of eight associations; measure the eight."""
        for name in self._among("orthanc", "preread"):
            with self.figures.guard(f"{name}, slow disk, {image.kind}"):
                disk = SlowDisk(self._folder, _SLOW_MILLISECONDS, name)
                with field.start(name, disk.environment) as peer:
                    peer.wait()
                    sender = Sender(peer.target, image, self._uids)
                    peer.n_expected += sender.times(1, 2).n
                    at_first = disk.n_calls
                    peer.n_expected += (alone := sender.times(1, 20)).n
                    later = disk.n_calls
                    load = sender.for_seconds(8, self._options.seconds)
                    at_last = disk.n_calls
                    peer.n_expected += load.n
                    peer.check()
                for measure, value in (
                    (figures.syncs(image.kind, 1), (later - at_first) / alone.n),
                    (figures.syncs(image.kind, 8), (at_last - later) / load.n),
                    (figures.slow_disk(image.kind), load.per_second),
                ):
                    self.figures.add(measure, name, number, value)

    def _idle(self, field: Field, number: int) -> None:
        image = build("small")
        for name in self._options.peers:
            self._say(f"{standing.N_IDLE} idle associations: {name}")
            with self.figures.guard(f"{name}, idle"), field.start(name) as peer:
                peer.wait()
                cpu, memory = standing.idle(peer, image, self._options.idle_seconds)
                self.figures.add(figures.IDLE_CPU, name, number, cpu)
                self.figures.add(figures.IDLE_MEMORY, name, number, memory)

    def _growth(self, field: Field, number: int) -> None:
        large, usual = build("multiframe"), build("CT")
        for name in self._options.peers:
            self._say(f"500 MB image: {name}")
            with self.figures.guard(f"{name}, 500 MB"), field.start(name) as peer:
                peer.wait()
                peer.n_expected += Sender(peer.target, usual, self._uids).times(1, 20).n
                grown = standing.growth(peer, large, self._uids, 1)
                self.figures.add(figures.GROWTH, name, number, grown)
                if name == "preread" and number == 0 and self._options.n_large_at_once > 1:
                    n_at_once = self._options.n_large_at_once
                    each = standing.growth(peer, large, self._uids, n_at_once)
                    self.figures.add(figures.GROWTH_OF_TEN, name, number, each)
                peer.check()

    def _mixed(self, number: int) -> None:
        """Measure the mixed load; PostgreSQL gets a server of its own, as slow as the node."""
        image = build("small")
        for name in self._among("preread", "preread-pg"):
            self._say(f"mixed load: {name}")
            with self.figures.guard(f"{name}, mixed load"), ExitStack() as stack:
                disk = SlowDisk(self._folder, mixed.ADDED_MILLISECONDS, f"mixed-{name}")
                on_postgres = name == "preread-pg"
                server = None
                if on_postgres:
                    server = PostgresServer(self._folder, disk.environment)
                    stack.callback(server.stop)
                taken = mixed.run(
                    Field(self._folder, server),
                    image,
                    self._uids,
                    self._options.mixed_seconds,
                    {**os.environ, **disk.environment},
                    on_postgres=on_postgres,
                )
                for measure, value in taken.items():
                    self.figures.add(measure, name, number, value)

    def _among(self, *names: str) -> Sequence[str]:
        return [name for name in names if name in self._options.peers]

    def _say(self, what: str) -> None:
        print(what, file=sys.stderr, flush=True)
