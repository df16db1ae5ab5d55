"""The pneumothorax reader that ships, made from films without a finding and a few with one.

Learning from films is done twice, each time with half of all patients, so that every film is read
once by a network that has seen neither it nor its patient. The first of the two ships: the half
that it has not seen gives the thresholds, and its figures are its own.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch import nn

from ..evaluation.ranking import auc_of
from ..input_spec import InputSpec
from ..lungs import find_lungs
from ..networks.chest_network import ChestNetwork
from .chest_films import Film, Listed, list_films, list_labelled, read_films, read_values
from .chest_learning import (
    CANVASES,
    FOLDS,
    ReferenceSettings,
    Say,
    fold_of,
    learn_films,
    learn_phantoms,
    new_network,
    scores,
)
from .painted_chests import painted_twins
from .pneumothorax_bundle import write_reference
from .pneumothorax_card import Measured
from .pneumothorax_figures import SHIPPED, Reading, measure
from .pretrained import lite0_in_one_channel

# Films to measure painted findings on in each fold.
_PAINTED = 60


@dataclass(frozen=True, slots=True)
class Sources:
    """Where films come from.

    Attributes
    ----------
    backgrounds : tuple of Path
        Folders of films without the finding.
    labelled : Path
        Folder with ``labels.csv`` (file, patient, pneumothorax).
    """

    backgrounds: tuple[Path, ...]
    labelled: Path


def make_reference(
    sources: Sources,
    out: Path,
    device: torch.device,
    settings: ReferenceSettings | None = None,
    work: Path | None = None,
    say: Say = print,
) -> Measured:
    """Train, measure and write the reader.

    Parameters
    ----------
    sources : Sources
    out : Path
        Folder of the bundle.
    device : torch.device
    settings : ReferenceSettings, optional
    work : Path, optional
        Folder for the weights of each stage: a stage whose weights are there is not done again.
    say : callable
        Told how it goes on, a line at a time.

    Raises
    ------
    InferenceError
        If films, labels or the weights to start from cannot be read.
    """
    chosen = settings or ReferenceSettings()
    torch.manual_seed(chosen.seed)
    plain, labelled = list_films(sources.backgrounds), list_labelled(sources.labelled)
    listed = plain + labelled
    folds = fold_of(plain, chosen.seed) | fold_of(labelled, chosen.seed)
    films = list(read_films(_canvases(listed), chosen.canvas))
    say(f"{len(films)} films to learn from, {len(listed)} to read")
    stages = _Stages(work)
    start = new_network()
    origin = lite0_in_one_channel(start.trunk)
    stages.reach("phantoms", start, lambda: learn_phantoms(start, chosen, device, say))
    spec, readings = reference_spec(chosen.size), []
    for fold in FOLDS:
        rest = [film for film in films if folds[film.group] != fold]
        network = copy.deepcopy(start)
        stages.reach(
            f"without-{fold}",
            network,
            partial(learn_films, network, rest, chosen, fold, device, say),
        )
        # What is measured are the weights as they are stored.
        network.half().float().eval()
        held_out = [film for film in films if folds[film.group] == fold]
        readings.append(
            Reading(
                fold,
                network,
                scores(network, listed, spec, device),
                painted_auc(network, held_out, chosen, device),
            )
        )
        say(f"all films read by the network without fold {fold}")
    sides = np.asarray([folds[one.group] for one in listed])
    missing = sum(find_lungs(read_values(one.path)) is None for one in listed)
    measured = measure(readings, listed, len(plain), sides, chosen, origin, missing)
    write_reference(out, readings[SHIPPED].network, spec, measured)
    return measured


@dataclass(frozen=True, slots=True)
class _Stages:
    """Weights that a broken training goes on from."""

    folder: Path | None

    def reach(self, name: str, network: nn.Module, learn: Callable[[], None]) -> None:
        """Give `network` the weights of a stage, learnt only if they are not there."""
        path = self.folder / f"{name}.safetensors" if self.folder else None
        if path is not None and path.is_file():
            load_model(network, path)
            return
        learn()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            partly = path.with_suffix(".part")
            save_model(network, str(partly))
            partly.replace(path)


def _canvases(listed: Sequence[Listed]) -> list[Listed]:
    """Return what is worth making a canvas of: all findings, a few others of each patient."""
    kept, taken = [], Counter[str]()
    for one in listed:
        taken[one.group] += 1
        if one.label or taken[one.group] <= CANVASES:
            kept.append(one)
    return kept


def reference_spec(size: int) -> InputSpec:
    """Return the input of the reader: the lungs, upright as the film is."""
    return InputSpec("radiograph", size, polarity="chest", crop="lungs")


def painted_auc(
    network: ChestNetwork,
    films: Sequence[Film],
    settings: ReferenceSettings,
    device: torch.device,
) -> float:
    """Return the AUC on findings painted into fine films that `network` has not seen."""
    rng = np.random.default_rng([settings.seed, 51])
    fine = [film for film in films if not film.coarse]
    found = []
    for film in fine[:_PAINTED]:
        twins = painted_twins(film, rng, settings.size)
        if twins is not None:
            batch = torch.from_numpy(twins.images).to(device).float()[:, None] / 255
            with torch.inference_mode():
                found.append(torch.sigmoid(network(batch))[:, 0].double().cpu().numpy())
    both = np.asarray(found).T.reshape(-1)
    truth = np.arange(len(both)) < len(both) // 2
    return auc_of(both, truth) or 0.0
