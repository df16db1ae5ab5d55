"""The whole benchmark, in rounds; what is compared is measured side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import cases as known
import engines
import first_result
import networks
import numpy as np
import torch
from cases import Case
from clock import Spent
from options import BARE, DICTIONARIES, ENGINE, OURS, PARTIES, PLAIN, TUTORIAL, Options
from ours import Node
from spawned import RefusedError, Spawned

from inference.bundle import Bundle

_ROOT = Path(__file__).parents[3]


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
    bundles = {
        name: networks.make(folder / "bundles" / name, name)
        for name in dict.fromkeys(known.PLANS[name].network for name in options.names)
    }
    for name in options.names:
        _say(f"drawing {name}")
        case = known.write(name, folder, options.slices, options.films)
        figures.files.append(FileFigures(case))
    for name, bundle in bundles.items():
        _keep_rows(name, bundle, options, figures, folder)
    if "files" in options.parts:
        for one in figures.files:
            _files(one, options, folder)
    if "engines" in options.parts:
        figures.engines = [engines.measure(name, folder, options) for name in bundles]
    if "start" in options.parts and options.device == "cpu":
        _starts(figures, options, folder)
    return figures


def _keep_rows(name: str, bundle: Bundle, options: Options, figures: Figures, folder: Path) -> None:
    """Write down what a network is given, and have its engine made: nobody waits for it later."""
    case = next(one.case for one in figures.files if one.case.plan.network == name)
    node = Node(case, bundle, options.device, folder / "engines", options.cores, 0)
    rows = torch.cat([torch.as_tensor(batch.tensor) for batch in node.prepared()])[:8]
    node.close()
    np.save(folder / f"{name}.npy", rows.cpu().numpy())


def _files(one: FileFigures, options: Options, folder: Path) -> None:
    parties = {n: Spawned("files", n, one.case.name, folder, options.arguments) for n in PARTIES}
    for name, party in list(parties.items()):
        try:
            party.wait()
        except RefusedError as error:
            one.refused[name] = str(error)
            del parties[name]
    bare = parties[BARE]
    if options.device == "cpu":
        assert bare.about.startswith("onnxruntime"), bare.about
    # It is the same that is measured.
    np.testing.assert_allclose(parties[OURS].told, bare.told, atol=1e-5)
    for name, party in parties.items():
        assert len(party.told) == len(one.case.files), name
        # What workers of a DataLoader take is not seen.
        if not (name == DICTIONARIES and options.workers):
            one.memory[name] = party.grown_mb
    for number in range(options.rounds):
        for name, party in parties.items():
            one.taken.setdefault(name, []).append(party.spend())
        _say(f"round {number + 1} of {options.rounds}: {one.case.plan.title}")
    for party in parties.values():
        party.close()


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
            ratio = network.ratio(ENGINE, PLAIN, options.by)
            least(f"{title}: engine to torch, eager", bound, ratio)
            most(f"{title}: drift of a probability", 1e-4, network.drift, "")
        most(f"{title}: pass with class maps", 1.05, network.share_of_maps(options.by), "x")
    if starts := figures.whole_starts or figures.starts:
        most("start of a worker to the first result", 1.5, median(starts), " s")
    return told


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
