"""The engine beside torch as people run it, batch by batch; and what the class maps cost."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from clock import Spent
from options import CHANNELS_LAST, ENGINE, PLAIN, WITHOUT_MAPS, Options
from spawned import Spawned

from inference.bundle import Bundle
from inference.engines import Engine, RawOutputs
from inference.engines.choose import EngineSettings, choose_engine
from inference.engines.torch_engine import TorchEngine
from inference.network import load_network

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


def measure(network: str, folder: Path, options: Options) -> EngineFigures:
    """Run the rows through all, in rounds, after a first one that warms up."""
    names = (ENGINE, PLAIN, CHANNELS_LAST, WITHOUT_MAPS)
    parties = {n: Spawned("network", n, network, folder, options.arguments) for n in names}
    for one in parties.values():
        one.wait()
    figures = EngineFigures(network, parties[ENGINE].about)
    differences = np.subtract(parties[ENGINE].told, parties[PLAIN].told)
    figures.drift = float(np.abs(differences).max())
    sizes = sorted({min(size, len(differences)) for size in BATCHES})
    for number in range(options.rounds + 1):
        for size in sizes:
            for name, one in parties.items():
                spent = one.spend(size)
                if number:
                    figures.taken.setdefault((name, size), []).append(spent)
        print(f"round {number} of {options.rounds}: {network}", file=sys.stderr, flush=True)
    for one in parties.values():
        one.close()
    return figures


def party(name: str, bundle: Bundle, device: str, cache: Path, threads: int) -> tuple[Run, str]:
    """Return what gives probabilities of rows, and what it is."""
    place = torch.device(device)
    if name == ENGINE:
        engine: Engine = choose_engine(bundle, device, EngineSettings(cache, threads)).engine
    elif name == WITHOUT_MAPS:
        engine = _without_maps(bundle, device, threads)
    else:
        network = load_network(bundle, place)
        layout = torch.channels_last if name == CHANNELS_LAST else torch.contiguous_format
        network = network.to(memory_format=layout)  # type: ignore[call-overload]
        return lambda rows: _eager(network, rows.contiguous(memory_format=layout)), "torch"
    about = f"{engine.identity.name} {engine.identity.version}"
    return lambda rows: _probabilities(engine.run(rows)), about


def _eager(network: torch.nn.Module, rows: torch.Tensor) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        return torch.sigmoid(network(rows)).cpu().numpy()


def _probabilities(outputs: RawOutputs) -> np.ndarray[Any, Any]:
    return 1 / (1 + np.exp(-outputs.tensors[0]))


def _without_maps(bundle: Bundle, device: str, threads: int) -> Engine:
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
