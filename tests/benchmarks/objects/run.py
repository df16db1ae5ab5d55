"""The whole benchmark, in rounds; what is compared is measured side by side."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import memory
import obvious
import ours
from cases import Case, build
from clock import Clock

from db.files import FileStore
from deploy import garbage


@dataclass(slots=True)
class Figures:
    """What was measured of one case: a clock for each round, and the memory in MB."""

    title: str
    limit_ms: float
    objects: str = ""
    ours: list[Clock] = field(default_factory=list)
    highdicom: list[Clock] = field(default_factory=list)
    memory: float | None = None
    highdicom_memory: float | None = None

    @property
    def milliseconds(self) -> float:
        """What the goal is about."""
        return median(_total(clock.wall) for clock in self.ours)

    @property
    def cpu_milliseconds(self) -> float:
        """The processor's part of it."""
        return median(_total(clock.cpu) for clock in self.ours)

    @property
    def highdicom_milliseconds(self) -> float:
        """The same of highdicom alone."""
        return median(1e3 * clock.wall[obvious.ALL] for clock in self.highdicom)

    @property
    def ratio(self) -> float:
        """Our time to highdicom's, by round."""
        pairs = zip(self.ours, self.highdicom, strict=True)
        return median(_total(one.wall) / (1e3 * two.wall[obvious.ALL]) for one, two in pairs)


def measure(names: Sequence[str], rounds: int, slices: int | None, folder: Path) -> list[Figures]:
    """Take all figures; `folder` is empty and on the disk to be measured."""
    cases: list[Case] = []
    for name in names:
        _say(f"drawing {name}")
        cases.append(build(name, folder / name, slices))
    taken = [Figures(case.title, case.limit_ms) for case in cases]
    for case in cases:  # the first time imports and fills caches
        _once(case, folder)
    garbage.settle()  # as the node's processes do when they have loaded what they need
    for number in range(rounds):
        for case, figures in zip(cases, taken, strict=True):
            _say(f"round {number + 1} of {rounds}: {case.title}")
            one, two, kinds = _once(case, folder)
            figures.ours.append(one)
            figures.highdicom.append(two)
            counted = Counter(kinds).items()
            figures.objects = ", ".join(f"{n} {kind.upper()}" for kind, n in counted)
    for case, figures in zip(cases, taken, strict=True):
        figures.memory = memory.peak(
            lambda case=case: ours.run(case, case.headers(), _store(folder), Clock())
        )
        figures.highdicom_memory = memory.peak(lambda case=case: obvious.run(case, Clock()))
    return taken


def _once(case: Case, folder: Path) -> tuple[Clock, Clock, list[str]]:
    one, two = Clock(), Clock()
    kinds = ours.run(case, case.headers(), _store(folder), one)
    obvious.run(case, two)
    return one, two, kinds


def _store(folder: Path) -> FileStore:
    store = FileStore(Path(tempfile.mkdtemp(prefix="store-", dir=folder)))
    store.prepare()
    return store


def _total(seconds: dict[str, float]) -> float:
    return 1e3 * sum(seconds[step] for step in ours.STEPS)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
