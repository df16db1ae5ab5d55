"""The whole benchmark, in rounds; what is compared is measured side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import alone
import cases as known
import engines
import first_result
import networks
import numpy as np
import torch
from cases import Case
from clock import Spent, spend
from others import Dictionaries, Tutorial
from ours import BATCH, Bare, Node

from inference.bundle import Bundle, open_bundle
from inference.heap import keep_freed_memory

OURS, BARE, DICTIONARIES, TUTORIAL = "Preread", "bare network", "MONAI dictionaries", "tutorial"
PARTIES = (OURS, BARE, DICTIONARIES, TUTORIAL)
PARTS = ("files", "engines", "start", "memory")
Party = Callable[[], Any]
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure.

    Attributes
    ----------
    cores : int
        Of this process; one thread of a network, and one worker of a DataLoader, for each.
    processes : int
        That decode for the node.
    """

    names: tuple[str, ...]
    parts: tuple[str, ...]
    rounds: int
    device: str
    cores: int
    processes: int
    slices: int
    films: int

    def by(self, spent: Spent) -> float:
        """Return what counts: on one core of a shared machine the time of the processor."""
        one_core = self.cores == 1 and not self.processes and self.device == "cpu"
        return spent.cpu if one_core else spent.wall


@dataclass(slots=True)
class FileFigures:
    """Seconds for a row of one case, round by round, of each party that can read it."""

    case: Case
    taken: dict[str, list[Spent]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)

    def cost(self, party: str, by: Callable[[Spent], float]) -> float | None:
        """Return the median of seconds for a row."""
        return median(map(by, self.taken[party])) if self.taken.get(party) else None

    def ratio(self, other: str, by: Callable[[Spent], float], ours: str = OURS) -> float | None:
        """Return the median of how often ours runs while `other` runs once."""
        if not self.taken.get(other) or not self.taken.get(ours):
            return None
        pairs = zip(self.taken[ours], self.taken[other], strict=True)
        return median(by(two) / by(one) for one, two in pairs)


@dataclass(slots=True)
class Figures:
    """All that was measured."""

    files: list[FileFigures] = field(default_factory=list)
    engines: list[engines.EngineFigures] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    whole_starts: Sequence[float] = ()


def measure(options: Options, folder: Path) -> Figures:
    """Take all figures; `folder` is empty."""
    figures = Figures()
    keep_freed_memory()  # as a worker does
    bundles = {
        name: networks.make(folder / "bundles" / name, name)
        for name in dict.fromkeys(known.PLANS[name].network for name in options.names)
    }
    for name in options.names:
        _say(f"drawing {name}")
        figures.files.append(FileFigures(known.write(name, folder, options.slices, options.films)))
    if "files" in options.parts:
        for one in figures.files:
            _files(one, bundles[one.case.plan.network], options, folder)
    if "engines" in options.parts:
        for name, bundle in bundles.items():
            figures.engines.append(_engines(name, bundle, options, figures, folder))
    if "start" in options.parts and options.device == "cpu":
        _starts(figures, options, folder)
    if "memory" in options.parts:
        _memory(figures, options, folder)
    return figures


def party(
    name: str, case: Case, bundle: Bundle, options: Options, folder: Path, workers: int
) -> Party:
    """Return one of `PARTIES` with its network loaded; the bare one is none of them."""
    cache = folder / "engines"
    if name == OURS:
        return Node(case, bundle, options.device, cache, options.cores, options.processes)
    if name == TUTORIAL:
        return Tutorial(case, bundle, options.device)
    return Dictionaries(case, bundle, options.device, workers, BATCH)


def _files(one: FileFigures, bundle: Bundle, options: Options, folder: Path) -> None:
    case, workers = one.case, options.cores if options.cores > 1 else 0
    node = party(OURS, case, bundle, options, folder, workers)
    bare = Bare(bundle, node.prepared(), options.device, folder / "engines", options.cores)
    if options.device == "cpu":
        assert bare.chosen.engine.identity.name == "onnxruntime", bare.chosen.instead
    parties: dict[str, Party] = {OURS: node, BARE: bare}
    for name in (DICTIONARIES, TUTORIAL):
        parties[name] = party(name, case, bundle, options, folder, workers)
    np.testing.assert_allclose(node(), bare(), atol=1e-5)  # it is the same that is measured
    for name, run in list(parties.items()):
        try:
            told = run()  # warms up, too
        except (RuntimeError, NotImplementedError, AttributeError) as error:
            one.refused[name] = (str(error).splitlines() or [type(error).__name__])[0]
            del parties[name]
            continue
        assert len(told) == len(case.files), name
    for number in range(options.rounds):
        for name, run in parties.items():
            one.taken.setdefault(name, []).append(spend(run, len(case.files)))
        _say(f"round {number + 1} of {options.rounds}: {case.plan.title}")
    node.close()


def _engines(
    name: str, bundle: Bundle, options: Options, figures: Figures, folder: Path
) -> engines.EngineFigures:
    case = next(one.case for one in figures.files if one.case.plan.network == name)
    node = party(OURS, case, bundle, options, folder, 0)
    rows = torch.cat([torch.as_tensor(batch.tensor) for batch in node.prepared()])[:8]
    node.close()
    return engines.measure(
        name, bundle, rows, options.device, folder / "engines", options.cores, options.rounds
    )


def _starts(figures: Figures, options: Options, folder: Path) -> None:
    films = [one.case for one in figures.files if one.case.plan.network == networks.CHEST]
    bundle = folder / "bundles" / networks.CHEST
    for number in range(options.rounds + 1 if films else 0):
        seconds = first_result.measure(bundle, folder / "engines", films[0].files[0], _ROOT)
        if number:  # the first one compiles, and exports if nothing did yet
            figures.starts.append(seconds)
    if find_spec("start") is not None:
        whole = import_module("start").measure(starts=options.rounds, watched=0)
        figures.whole_starts = [one.seconds for one in whole.starts]
    _say("starts measured")


def _memory(figures: Figures, options: Options, folder: Path) -> None:
    for one in figures.files:
        for name in (OURS, DICTIONARIES, TUTORIAL):
            if name in one.refused:
                continue
            found = alone.peak(name, one.case.name, folder, options.device, options.cores)
            if found is not None:
                one.memory[name] = found
        _say(f"memory: {one.case.plan.title}")


def grow(name: str, case_name: str, options: Options, folder: Path) -> float:
    """Return by how many MB this process grows when a party reads the files of a case once."""
    case = known.found(case_name, folder)
    bundle = open_bundle(folder / "bundles" / case.plan.network)
    keep_freed_memory()
    run = party(name, case, bundle, options, folder, 0)
    before = alone.start_counting()
    run()
    return (alone.kilobytes("VmHWM") - before) / 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was aimed at.

    Attributes
    ----------
    at_most : float or None
        What the ratio would be if the input cost nothing: the network takes its time anyway.
    """

    what: str
    asked: str
    found: str
    is_met: bool
    at_most: float | None = None


def goals(figures: Figures, options: Options) -> Sequence[Verdict]:
    """Return all goals of what was measured."""
    told: list[Verdict] = []

    def least(what: str, bound: float, found: float | None, at_most: float | None = None) -> None:
        if found is not None:
            asked = f"at least {bound:.2f}x"
            told.append(Verdict(what, asked, f"{found:.2f}x", found >= bound, at_most))

    def most(what: str, bound: float, found: float, unit: str) -> None:
        asked, has = f"at most {bound:g}{unit}", f"{found:.3g}{unit}"
        told.append(Verdict(what, asked, has, found <= bound))

    on_gpu = options.device != "cpu"
    for one in figures.files:
        asked, title = one.case.plan.goals, one.case.plan.title
        wanted: Mapping[str, float | None] = {
            BARE: 0.90 if on_gpu and one.case.name == "ct" else asked.bare,
            DICTIONARIES: None if on_gpu else asked.dictionaries,
            TUTORIAL: None if on_gpu else asked.tutorial,
        }
        for name, bound in wanted.items():
            if bound is not None:
                free = one.ratio(name, options.by, ours=BARE)
                least(f"{title}: to {name}", bound, one.ratio(name, options.by), free)
    for network in figures.engines:
        title = networks.TITLES[network.network]
        if not on_gpu:
            bound = 2.2 if network.network == networks.HEAD else 1.6
            ratio = network.ratio(engines.ENGINE, engines.PLAIN, options.by)
            least(f"{title}: engine to torch, eager", bound, ratio)
            most(f"{title}: drift of a probability", 1e-4, network.drift, "")
        most(f"{title}: pass with class maps", 1.05, network.share_of_maps(options.by), "x")
    if starts := figures.whole_starts or figures.starts:
        most("start of a worker to the first result", 1.5, median(starts), " s")
    return told


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
