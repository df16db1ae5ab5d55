"""What receiving must show: ratios within one run, and limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import figures
from figures import Figures, Measure, slow_disk, throughput
from mixed import measure as mixed

OURS, ON_POSTGRES = "preread", "preread-pg"


@dataclass(frozen=True, slots=True)
class Goal:
    """At least (or at most) `bound`: of the figure itself, or as a ratio to another peer's."""

    measure: Measure
    bound: float
    against: str | None = None
    peer: str = OURS

    @property
    def unit(self) -> str:
        return "x" if self.against else self.measure.unit

    def value(self, taken: Figures) -> float | None:
        """Return what was measured, or None."""
        if self.against is None:
            return taken.median(self.measure, self.peer)
        return taken.ratio(self.measure, self.peer, self.against)

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.against else value <= self.bound


def goals() -> Iterator[Goal]:
    """Yield the goals in the order of their importance."""
    for n, bound in ((1, 2.2), (4, 2.0)):
        yield Goal(throughput("CT", "raw", n), bound, "orthanc")
    for n, bound in ((1, 1.9), (4, 1.6), (8, 1.6)):
        yield Goal(throughput("CT", "storescu", n), bound, "orthanc")
    for n, bound in ((1, 3.5), (4, 2.5)):
        yield Goal(throughput("DX", "raw", n), bound, "orthanc")
    for n, bound in ((1, 1.5), (4, 1.4)):
        yield Goal(throughput("small", "raw", n), bound, "orthanc")
    yield Goal(figures.ONE_EACH, 0.8, "orthanc")
    for kind in ("CT", "small"):
        yield Goal(slow_disk(kind), 4.0, "orthanc")
    for n in (1, 4):
        yield Goal(throughput("CT", "raw", n), 0.5, "storescp")
    yield Goal(throughput("CT", "raw", 4), 0.7, OURS, ON_POSTGRES)
    yield Goal(figures.ECHO, 1.0)
    yield Goal(figures.SMALL_STORE, 1.5)
    yield Goal(figures.SET_UP, 3.0)
    yield Goal(figures.IDLE_CPU, 10.0)
    yield Goal(figures.IDLE_MEMORY, 512.0)
    yield Goal(figures.GROWTH, 16.0)
    yield Goal(figures.GROWTH_OF_TEN, 16.0)
    yield from _mixed_goals()


def _mixed_goals() -> Iterator[Goal]:
    for name, bound in (("p95", 40.0), ("p99", 60.0), ("max", 100.0)):
        yield Goal(mixed(f"C-STORE {name}"), bound)
    for name, bound in (("p95", 30.0), ("p99", 50.0)):
        yield Goal(mixed(f"C-STORE {name}"), bound, peer=ON_POSTGRES)
    for peer in (OURS, ON_POSTGRES):
        yield Goal(mixed("errors of writers and reader", "errors"), 0.0, peer=peer)
        yield Goal(mixed("one writer's p95 over the other's", "x"), 1.3, peer=peer)
        yield Goal(mixed("closing a series p95"), 150.0, peer=peer)
    yield Goal(mixed("write-ahead log", "MB"), 5.0)
