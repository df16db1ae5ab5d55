"""The whole benchmark, part by part."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import flat
import stages
import standing
import throughput
import urgent
from figures import Figures
from images import SLICES
from raw_scu import Gone, Rejected

PARTS = ("stages", "urgent", "workers", "memory", "flat")


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure and how much of it.

    Attributes
    ----------
    n_stat : int
        STAT films, one after the other.
    windows, window_seconds : int, float
        Rounds of one worker and two, and how long each is looked at.
    n_studies : int
        Queued for these windows.
    """

    parts: tuple[str, ...]
    databases: tuple[str, ...]
    archives: tuple[str, ...]
    rounds: int
    queued: int
    count: int
    concurrency: int | None
    every: int = 100
    n_stat: int = 5
    windows: int = 5
    window_seconds: float = 10.0
    n_studies: int = 2000


def smallest(options: Options) -> Options:
    """Return the smallest form of the same parts; its figures mean nothing."""
    return replace(
        options, databases=("sqlite",), archives=options.archives[:1], rounds=1, queued=8, count=10,
        every=5, n_stat=1, windows=1, window_seconds=2.0, n_studies=160,
    )  # fmt: skip


def measure(options: Options, folder: Path, taken: Figures, out: Path | None) -> None:
    """Take all figures; errors are among them."""
    if "stages" in options.parts:
        _stages(options, folder, taken)
    for on in options.databases:
        if "urgent" in options.parts:
            with _guard(taken, f"STAT behind CT, {on}"):
                place = folder / f"urgent-{on}"
                taken.overtakings += urgent.run(place, on, options.queued, SLICES, options.n_stat)
        if "workers" in options.parts:
            with _guard(taken, f"two workers, {on}"):
                taken.scalings.append(
                    throughput.run(
                        folder / f"workers-{on}", on, options.n_studies, options.window_seconds,
                        options.windows,
                    )
                )  # fmt: skip
    if "memory" in options.parts:
        with _guard(taken, "memory after the start"):
            taken.standing = standing.run(folder / "standing")
    if "flat" in options.parts:
        with _guard(taken, "X-rays in a row"):
            note = out / "flat.json" if out is not None else None
            taken.flat = flat.run(
                folder / "flat", options.count, options.every, options.concurrency, note
            )


def _stages(options: Options, folder: Path, taken: Figures) -> None:
    for on in options.databases:
        for archive in options.archives:
            for proof in ("commit", "find"):
                with _guard(taken, f"{archive}, {proof}, {on}"):
                    place = folder / f"{on}-{archive.replace(' ', '-')}-{proof}"
                    place.mkdir()
                    taken.ways.append(
                        stages.run(place, on, archive, proof, options.rounds,
                                   idle=options.rounds > 1 and proof == "commit")
                    )  # fmt: skip


@contextmanager
def _guard(taken: Figures, what: str) -> Iterator[None]:
    """Keep an error and go on: other parts are measured all the same."""
    print(what, file=sys.stderr, flush=True)
    try:
        yield
    except (AssertionError, OSError, Gone, Rejected) as error:
        taken.errors.append(f"{what}: {error}")
