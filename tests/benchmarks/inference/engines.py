"""The engine beside torch as people run it, batch by batch; and what the class maps cost."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from clock import Spent, spend

from inference.bundle import Bundle
from inference.engines import Engine, RawOutputs
from inference.engines.choose import EngineSettings, choose_engine
from inference.engines.torch_engine import TorchEngine
from inference.network import load_network

# Torch as it comes, and with the layout of memory that is best for most convolutions.
ENGINE, PLAIN, CHANNELS_LAST, WITHOUT_MAPS = (
    "engine",
    "torch, eager",
    "torch, eager, channels_last",
    "engine without class maps",
)
BATCHES = (1, 4, 8)
Run = Callable[[torch.Tensor], np.ndarray[Any, Any]]


@dataclass(slots=True)
class EngineFigures:
    """What was measured of one network.

    Attributes
    ----------
    drift : float
        Largest difference of a probability to plain torch, over the rows used here.
    taken : dict
        Seconds a row, round by round, of each party and batch.
    """

    network: str
    engine: str
    drift: float = 0.0
    taken: dict[tuple[str, int], list[Spent]] = field(default_factory=dict)

    def best(self, party: str, by: Callable[[Spent], float]) -> tuple[int, float]:
        """Return the batch in which a row costs a party least, and that."""
        sizes = [batch for name, batch in self.taken if name == party]
        costs = {size: median(map(by, self.taken[party, size])) for size in sizes}
        least = min(costs, key=lambda size: costs[size])
        return least, costs[least]

    def ratio(self, party: str, other: str, by: Callable[[Spent], float]) -> float:
        """Return how often `party` runs while `other` runs once, each in its best batch."""
        ours, theirs = self.best(party, by)[0], self.best(other, by)[0]
        pairs = zip(self.taken[party, ours], self.taken[other, theirs], strict=True)
        return median(by(two) / by(one) for one, two in pairs)

    def share_of_maps(self, by: Callable[[Spent], float]) -> float:
        """Return the cost of a pass with class maps to one without, in the batch of most rows."""
        with_maps, without = (
            [s for (name, _), spent in sorted(self.taken.items()) if name == party for s in spent]
            for party in (ENGINE, WITHOUT_MAPS)
        )
        return median(by(one) / by(two) for one, two in zip(with_maps, without, strict=True))


def measure(
    network: str, bundle: Bundle, rows: torch.Tensor, device: str, cache: Path, threads: int,
    rounds: int,
) -> EngineFigures:  # fmt: skip
    """Run the rows through all, in rounds, after a first one that warms up."""
    parties, engine = _parties(bundle, device, cache, threads)
    figures = EngineFigures(network, f"{engine.identity.name} {engine.identity.version}")
    rows = rows.to(torch.device(device))
    sizes = sorted({min(size, len(rows)) for size in BATCHES})
    told = {name: run(rows) for name, run in parties.items()}
    figures.drift = float(np.abs(told[ENGINE] - told[PLAIN]).max())
    for number in range(rounds + 1):
        for size in sizes:
            for name, run in parties.items():
                spent = spend(lambda run=run, size=size: _in_batches(run, rows, size), len(rows))
                if number:
                    figures.taken.setdefault((name, size), []).append(spent)
        if number:
            print(f"round {number} of {rounds}: engines, {network}", file=sys.stderr, flush=True)
    return figures


def _in_batches(run: Run, rows: torch.Tensor, size: int) -> None:
    for start in range(0, len(rows), size):
        run(rows[start : start + size])


def _parties(
    bundle: Bundle, device: str, cache: Path, threads: int
) -> tuple[Mapping[str, Run], Engine]:
    place = torch.device(device)
    engine = choose_engine(bundle, device, EngineSettings(cache=cache, threads=threads)).engine
    plain = load_network(bundle, place)
    last = load_network(bundle, place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parties: dict[str, Run] = {
        ENGINE: lambda rows: _probabilities(engine.run(rows)),
        PLAIN: lambda rows: _eager(plain, rows),
        CHANNELS_LAST: lambda rows: _eager(
            last, rows.contiguous(memory_format=torch.channels_last)
        ),
    }
    without = _without_maps(bundle, device, threads)
    if without is not None:
        parties[WITHOUT_MAPS] = lambda rows: _probabilities(without.run(rows))
    return parties, engine


def _eager(network: torch.nn.Module, rows: torch.Tensor) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        return torch.sigmoid(network(rows)).cpu().numpy()


def _probabilities(outputs: RawOutputs) -> np.ndarray[Any, Any]:
    return 1 / (1 + np.exp(-outputs.tensors[0]))


def _without_maps(bundle: Bundle, device: str, threads: int) -> Engine | None:
    """Return the same engine for the network alone."""
    if device != "cpu":
        from inference.engines.cuda_engine import CudaEngine

        place, probe = torch.device(device), torch.zeros(
            1, bundle.spec.channels, bundle.spec.size, bundle.spec.size
        )  # fmt: skip
        return CudaEngine(
            load_network(bundle, place), place, probe, precision=bundle.engine.precision,
            largest=32, class_maps=False,
        )  # fmt: skip
    from inference.engines.onnx_engine import OnnxEngine
    from inference.engines.onnx_export import export

    network = TorchEngine(load_network(bundle, torch.device("cpu")), torch.device("cpu")).traced
    rows = torch.zeros(2, bundle.spec.channels, bundle.spec.size, bundle.spec.size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export(network, rows, path)
        return OnnxEngine(path, class_maps=False, threads=threads)
