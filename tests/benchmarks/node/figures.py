"""All that was measured, and what it was to show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from flat import Flat
from stages import Way
from standing import Standing
from throughput import Scaling
from urgent import Overtaking

# What grows by less than this is flat: the allocator's own steps are larger.
FLAT_MB_PER_1000 = 1.0
MOST_BEYOND_SECONDS = 1.0
LEAST_SCALING = 1.7


@dataclass
class Figures:
    """What was measured; what was left out is empty."""

    ways: list[Way] = field(default_factory=list)
    overtakings: list[Overtaking] = field(default_factory=list)
    scalings: list[Scaling] = field(default_factory=list)
    standing: Standing | None = None
    flat: Flat | None = None
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Goal:
    """Something asked, and what was measured; `is_met` is None where that says too little."""

    name: str
    asked: str
    measured: str
    is_met: bool | None


def goals(taken: Figures) -> Iterator[Goal]:
    """Yield the goals of everything that was measured."""
    for way in taken.ways:
        beyond = median(one.beyond for one in way.rounds)
        yield Goal(
            f"X-ray to proved report beyond quiet and model time ({way.title})",
            f"at most {MOST_BEYOND_SECONDS:.1f} s", f"{beyond:.2f} s",
            beyond <= MOST_BEYOND_SECONDS,
        )  # fmt: skip
    for database in dict.fromkeys(one.database for one in taken.overtakings):
        mine = [one for one in taken.overtakings if one.database == database]
        batches = median(one.batches_to_start for one in mine)
        queued = max(one.n_waiting for one in mine)
        yield Goal(
            f"STAT X-ray behind {queued} CT studies starts ({database})",
            "within 1 batch", f"{batches:.2f} batches", batches <= 1,
        )  # fmt: skip
    for scaling in taken.scalings:
        yield Goal(
            f"two workers over one ({scaling.database})",
            f"at least {LEAST_SCALING}x", f"{scaling.ratio:.2f}x",
            scaling.ratio >= LEAST_SCALING,
        )  # fmt: skip
    if taken.flat is not None and (grown := taken.flat.slope()) is not None:
        yield Goal(
            f"memory of a worker over {taken.flat.n_asked} X-rays ({taken.flat.n} were analysed)",
            f"at most {FLAT_MB_PER_1000:.0f} MB per 1,000", f"{grown:+.2f} MB per 1,000",
            grown <= FLAT_MB_PER_1000 if taken.flat.n == taken.flat.n_asked else None,
        )  # fmt: skip
