"""How the hemorrhage reader that ships was made.

Painted slices, two trainings to judge by, and one to ship.

The two that judge leave half of the levels of the real heads out, by turns; what they say of the
levels that they never saw, taken as free of blood, sets the thresholds of the third, which saw all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from ..evaluation.ranking import auc_of
from ..input_spec import InputSpec
from ..networks import SliceNetwork
from ..pooling import SeriesPooling
from ..tensors import prepare_ct
from ..windows import BRAIN, SOFT, SUBDURAL
from .painted_fit import OnStep, PaintedSettings, fit_painted
from .painted_heads import KINDS
from .painted_pool import Pool, draw_pool
from .phantoms.backgrounds import RealSeries
from .phantoms.fields import FloatArray
from .pictures import vary
from .pretrained import lite0_weights

SPEC = InputSpec("ct_slices", 192, windows=(BRAIN, SUBDURAL, SOFT), crop="head")
NETWORK_DEF = {
    "_target_": "inference.networks.SliceNetwork",
    "in_channels": 3,
    "num_classes": 1 + len(KINDS),
    "num_maps": len(KINDS),
}
LABELS = ("any", *(str(kind) for kind in KINDS))
POOLING = SeriesPooling(reach_mm=10.0, key_slices=3)

_FOLDS = 2
# Seeds of what is measured on lie where those of training never come.
_VALIDATION_SEED = 5_000_000
_CPU = torch.device("cpu")
_LATER_RATE = 0.6


@dataclass(frozen=True, slots=True)
class Round:
    """A further round of the training that ships, from the averaged weights of the one before.

    Attributes
    ----------
    seeds : int
        Slices that are drawn for it, beside all those of the rounds before.
    steps : int
    """

    seeds: int
    steps: int


@dataclass(frozen=True, slots=True)
class ReferenceSettings:
    """How much is drawn and learnt.

    Attributes
    ----------
    seeds, validation_seeds : int
        Slices that are drawn, twins not counted, to learn from and to measure on.
    real_share : float
        Share of them on real ground.
    steps, fold_steps : int
        Of the training that ships, and of those that judge.
    more : tuple of Round
        Further rounds of the training that ships, at 0.6 of the rate.
    painted : PaintedSettings
        Everything else.
    workers : int
        Processes that draw.
    """

    seeds: int = 8500
    validation_seeds: int = 500
    real_share: float = 0.55
    steps: int = 1500
    fold_steps: int = 700
    more: tuple[Round, ...] = (Round(2500, 750),)
    painted: PaintedSettings = field(default_factory=PaintedSettings)
    workers: int = 2


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a network says of painted slices, and what is true.

    Attributes
    ----------
    form : {"hu", "picture"}
        Whether they were left in HU or had been pictures of 8 bits.
    scores : ndarray of float64, (n, 6)
    truth : ndarray of bool, (n, 6)
    grounds : ndarray of str, (n,)
    """

    form: str
    scores: NDArray[np.float64]
    truth: NDArray[np.bool_]
    grounds: NDArray[np.str_]

    def auc(self, column: int, rows: NDArray[np.bool_]) -> float | None:
        """Return the AUC of one label over some of the slices."""
        return auc_of(self.scores[rows, column], self.truth[rows, column])


@dataclass(frozen=True, slots=True, eq=False)
class RealScores:
    """What the judging networks say of real slices whose level they never saw.

    Attributes
    ----------
    single : ndarray of float64, (slices, 6)
    series : ndarray of float64, (6,)
        The highest after smoothing over neighbours.
    """

    single: NDArray[np.float64]
    series: NDArray[np.float64]


def fit_fold(
    number: int | None,
    work: Path,
    backgrounds: Sequence[Path],
    settings: ReferenceSettings,
    on_step: OnStep,
) -> SliceNetwork:
    """Return a trained network; one that stands in `work` already is taken from there.

    Parameters
    ----------
    number : int or None
        Which half of the levels is left out; None for the network that ships.
    work : Path
        Folder of the pool, the checkpoints and the weights.
    backgrounds : sequence of Path
        Folders with one head CT series each, free of hemorrhage.
    """
    name = "final" if number is None else f"fold{number}"
    path = work / f"{name}.safetensors"
    torch.manual_seed(settings.painted.seed)
    network = SliceNetwork(3, 1 + len(KINDS), len(KINDS))
    if path.is_file():
        network.load_state_dict(load_file(path))
        network.eval()
        return network
    start_trunk(network)
    rounds = [Round(settings.seeds, settings.steps), *settings.more]
    if number is not None:
        rounds = [Round(settings.seeds, settings.fold_steps)]
    seeds = 0
    for index, of_round in enumerate(rounds):
        seeds += of_round.seeds
        reached = work / f"{name}-round{index}.safetensors"
        if reached.is_file():
            network.load_state_dict(load_file(reached))
            continue
        pool = draw_pool(
            work / "pool", range(seeds), backgrounds, settings.workers, settings.real_share
        )
        chosen = np.arange(len(pool))
        if number is not None:
            chosen = chosen[~left_out(pool.grounds, number)]
        painted = _of_round(settings.painted, index, of_round.steps)
        checkpoint = work / f"{name}-round{index}.checkpoint"
        fit_painted(network, pool, chosen, SPEC, painted, checkpoint, on_step)
        _saved(network, reached)
    network.half().float()  # as it will be stored
    network.eval()
    _saved(network, path)
    return network


def _of_round(painted: PaintedSettings, index: int, steps: int) -> PaintedSettings:
    """Return how a round learns: the later ones more slowly, each by chance of its own."""
    rate = painted.learning_rate * (_LATER_RATE if index else 1.0)
    return replace(painted, steps=steps, learning_rate=rate, seed=painted.seed + index)


def _saved(network: SliceNetwork, path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, temporary)
    temporary.rename(path)


def start_trunk(network: SliceNetwork) -> None:
    """Give the trunk its ImageNet weights.

    Raises
    ------
    InferenceError
        If the package that brings them is not installed.
    """
    kept = [tensor for name, tensor in lite0_weights().items() if not name.startswith("_fc")]
    trunk = [n for n in network.state_dict() if n.startswith(("stem.", "stages.", "last."))]
    network.load_state_dict(dict(zip(trunk, kept, strict=True)), strict=False)


def left_out(grounds: NDArray[np.str_], number: int) -> NDArray[np.bool_]:
    """Return which slices were painted on levels that training `number` must not see.

    Levels are left out in pairs: neighbours are too much alike to stand for something new.
    """
    levels = np.array([int(g.split("/")[1]) if "/" in g else -1 for g in grounds])
    out: NDArray[np.bool_] = (levels >= 0) & (levels // 2 % _FOLDS == number)
    return out


def validation_pool(work: Path, backgrounds: Sequence[Path], settings: ReferenceSettings) -> Pool:
    """Draw what is measured on."""
    seeds = range(_VALIDATION_SEED, _VALIDATION_SEED + settings.validation_seeds)
    return draw_pool(work / "validation", seeds, backgrounds, settings.workers, settings.real_share)


def painted_scores(network: SliceNetwork, pool: Pool, form: str) -> Scores:
    """Return what `network` says of a pool, as HU or as pictures."""
    slices = (
        vary(np.random.default_rng([7, index]), np.asarray(hu), 1.0) if form == "picture" else hu
        for index, hu in enumerate(pool.hu)
    )
    labels = pool.labels.astype(bool)
    truth = np.concatenate([labels.any(axis=1, keepdims=True), labels], axis=1)
    return Scores(form, slice_scores(network, slices), truth, pool.grounds)


def slice_scores(
    network: SliceNetwork, slices: Iterable[FloatArray | NDArray[np.int16]]
) -> NDArray[np.float64]:
    """Return probabilities, (n, 6), of slices in HU, each of its own size."""
    scores = []
    with torch.inference_mode():
        for hu in slices:
            image = prepare_ct(np.asarray(hu, dtype=np.float32)[None], SPEC, _CPU)
            logits, _ = network(image.contiguous(memory_format=torch.channels_last))
            scores.append(logits.sigmoid()[0].double().numpy())
    return np.stack(scores)


def real_scores(networks: Sequence[SliceNetwork], series: RealSeries) -> RealScores:
    """Return what is said of a real series, each slice by the network that never saw its level."""
    said = [slice_scores(network, series.hu) for network in networks]
    levels = np.array([f"{series.name}/{index}" for index in range(len(series.hu))])
    single = np.zeros_like(said[0])
    for number, scores in enumerate(said):
        rows = left_out(levels, number)
        single[rows] = scores[rows]
    smooth = POOLING.smooth(single, series.positions_mm)
    return RealScores(single, smooth.max(axis=0))
