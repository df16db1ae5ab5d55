"""Figures: what was measured, by measure, peer and round; medians, and ratios within a round."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from load import ProtocolError
from processes import PeerError
from slow_disk import SlowDiskError


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured, and in which unit."""

    name: str
    unit: str


def throughput(kind: str, driver: str, n_associations: int) -> Measure:
    """Return the measure of images that one driver gets stored over some associations."""
    return Measure(f"{kind}, {driver}, {n_associations}", "images/s")


def cpu(kind: str, n_associations: int) -> Measure:
    """Return the measure of what a peer's processes compute for an image from the generator."""
    return Measure(f"CPU per image, {kind}, {n_associations}", "ms")


ONE_EACH = Measure("one image per association, small", "images/s")
ECHO = Measure("C-ECHO", "ms")
SMALL_STORE = Measure("store, small", "ms")
SET_UP = Measure("association set-up", "ms")
IDLE_CPU = Measure("CPU with 120 idle associations", "% of a core")
IDLE_MEMORY = Measure("memory per idle association", "KiB")
GROWTH = Measure("memory growth, 500 MB image", "MB")
GROWTH_OF_TEN = Measure("memory growth each, ten 500 MB images at once", "MB")


def syncs(kind: str, n_associations: int) -> Measure:
    """Return the measure of how often a peer syncs for an image."""
    return Measure(f"fsync and fdatasync calls per image, {kind}, {n_associations}", "calls")


def slow_disk(kind: str) -> Measure:
    """Return the measure of eight associations on a disk that takes 3 ms longer to sync."""
    return Measure(f"{kind}, raw, 8, +3 ms per sync", "images/s")


class Figures:
    """All that was measured. Rounds pair the figures of peers that were measured side by side."""

    def __init__(self) -> None:
        self._values: dict[Measure, dict[str, dict[int, float]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        self.errors: list[str] = []

    def add(self, measure: Measure, peer: str, round_number: int, value: float) -> None:
        """Keep one figure."""
        self._values[measure][peer][round_number] = value

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Keep an error of the ``with`` block and go on: others are measured all the same."""
        try:
            yield
        except (PeerError, ProtocolError, SlowDiskError, OSError) as error:
            self.errors.append(f"{what}: {error}")

    def measures(self) -> list[Measure]:
        """Return the measures in the order in which they were first taken."""
        return list(self._values)

    def values(self, measure: Measure, peer: str) -> list[float]:
        """Return the figures of a peer, round by round."""
        return list(self._values.get(measure, {}).get(peer, {}).values())

    def median(self, measure: Measure, peer: str) -> float | None:
        """Return the median over the rounds, or None if it was not measured."""
        values = self.values(measure, peer)
        return median(values) if values else None

    def ratio(self, measure: Measure, peer: str, base: str) -> float | None:
        """Return the median of the ratios within each round, or None without any."""
        peers = self._values.get(measure, {})
        ours, theirs = peers.get(peer, {}), peers.get(base, {})
        ratios = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
        return median(ratios) if ratios else None

    def to_json(self, facts: Iterable[tuple[str, str]]) -> str:
        """Return everything, with the facts of the machine."""
        figures = [
            {"measure": measure.name, "unit": measure.unit, "rounds": peers}
            for measure, peers in self._values.items()
        ]
        document = {"machine": dict(facts), "figures": figures, "errors": self.errors}
        return json.dumps(document, indent=1)
